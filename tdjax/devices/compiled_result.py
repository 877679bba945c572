"""What a device's compiler said of a program's candidates: the record that files of results hold.

Nothing ran there. On a TPU its estimates of cycles rank the candidates, elsewhere the bytes that
they access.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, TypeAlias

from tdjax.core.typed import Amount, Count, Needed, Size, one_of
from tdjax.devices.tuned_result import Bounds, Tuned

CYCLES = "estimated_cycles"
BYTES = "bytes_accessed"
LEVEL: Mapping[str, float] = {CYCLES: 1.03, BYTES: 1.05}
"""Figures within this factor of the least cannot be told from it."""
ORDERED = "by bytes, which ordered 94 of 94 pairs as an H200 does"
"""How far bytes are known to order programs as a GPU does: `examples/results/h200.json` against the
same programs compiled without one."""


@dataclasses.dataclass(frozen=True)
class RankedCandidate:
    """What was compiled of one strategy.

    Attributes:
        strategy: its name.
        kind, options: what it is made of again.
        status, error: as in an `Entry`.
        estimated_cycles, bytes_accessed, temp_bytes: as in an `Entry`.
        max_rel_error: of its answer on a CPU, which checks the strategy and not the chip's code;
            None where that was not checked.
    """

    strategy: str
    kind: str
    options: Mapping[str, str | int | float | bool | None]
    status: Annotated[str, one_of("ok", "failed", "timeout")]
    error: str | None = None
    estimated_cycles: Count | None = None
    bytes_accessed: Amount | None = None
    temp_bytes: Count | None = None
    max_rel_error: Amount | None = None


@dataclasses.dataclass(frozen=True)
class CompiledResult:
    """What was compiled of one program in one mode.

    Attributes:
        program, mode, title, sizes, date: as of a `Tuned`.
        device: the kind of device, as JAX calls it.
        target: what it was compiled for: "tpu:v5e".
        topology: which devices these are, as their compiler calls them: "v5e:2x2".
        compiler: its name.
        versions: of jax, jaxlib and tdjax, and of the packages that the compiler is made of.
        candidates: one a strategy.
    """

    program: Annotated[str, Needed("letters and digits", str.isalnum)]  # It names a file.
    mode: Annotated[str, one_of("forward", "grad")]
    title: str
    sizes: tuple[Size, Size]
    device: str
    target: str
    topology: str
    compiler: str
    versions: Mapping[str, str]
    date: str
    candidates: tuple[RankedCandidate, ...]

    @property
    def metric(self) -> str:
        """What ranks the candidates: cycles if all of them have an estimate, otherwise bytes."""
        known = [each.estimated_cycles for each in self.candidates if each.status == "ok"]
        return CYCLES if known and None not in known else BYTES

    def bounds(self, metric: str) -> dict[str, Bounds]:
        """Return the figure of each strategy that has one, and from where to where it is level."""
        found = {
            each.strategy: getattr(each, metric) for each in self.candidates if each.status == "ok"
        }
        return {
            strategy: (figure, figure, figure * LEVEL[metric])
            for strategy, figure in found.items()
            if figure is not None
        }


Result: TypeAlias = Tuned | CompiledResult
