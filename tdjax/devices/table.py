"""Tables of what `auto` could have chosen on a device: how long every candidate takes.

A choice is judged by them without a clock. `tdjax oracle` makes them, with speeds calibrated there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tdjax.core import typed
from tdjax.core.typed import Count, Positive, one_of

FORMAT = "tdjax-table"
VERSION = 1
_FOLDER = Path(__file__).parent / "tables"


@dataclass(frozen=True)
class Row:
    """One workload in one mode.

    Attributes:
        workload: its name, in `tdjax.workloads`.
        mode: "forward", or "grad" for forward and gradient.
        seconds: the shortest time of each strategy, by its name. One that is predicted to be far
            behind is left out.
        temp_bytes: temporary memory that programs of strategies take, by the compiler.
    """

    workload: str
    mode: Annotated[str, one_of("forward", "grad")]
    seconds: Mapping[str, Positive]
    temp_bytes: Mapping[str, Count] = field(default_factory=dict)

    def regret(self, strategy: str) -> float:
        """Return the time of a strategy over that of the best; inf if it was not measured."""
        return self.seconds.get(strategy, float("inf")) / min(self.seconds.values())


@dataclass(frozen=True)
class Table:
    """What was measured on a device.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        kind: the kind of device.
        date: when it was measured.
        versions: of jax, jaxlib and tdjax.
        speeds: calibrated there, by their names.
        rows: one a workload and mode.
    """

    platform: str
    kind: str
    date: str
    versions: Mapping[str, str]
    speeds: Mapping[str, Positive]
    rows: tuple[Row, ...]


def read(path: Path) -> Table:
    """Return what a file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else, or is damaged.
    """
    return typed.load(Table, path, FORMAT, VERSION)


@functools.cache
def tables() -> tuple[Table, ...]:
    """Return the tables that are shipped, in the order of their files' names."""
    return tuple(map(read, sorted(_FOLDER.glob("*.json"))))
