"""What every strategy is: a frozen description that can run a call."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

from tdjax.core.call import Call
from tdjax.costs.predict import Blocks


@dataclasses.dataclass(frozen=True)
class Strategy(abc.ABC):
    """A way to compute `time_distributed`, hashable and comparable; never another meaning.

    A new strategy is a file with one frozen dataclass and a line in the registry.
    """

    @abc.abstractmethod
    def run(self, call: Call) -> Any:
        """Return the output of a call with at least one step, time stacked at its `out_axes`.

        Raises:
            StrategyError: the strategy cannot keep the meaning of the loop for this call.
        """

    def blocks(self, batch: int, time: int) -> Blocks | None:
        """Return how it goes through the rows of a call; None where that is not settled."""
        return None

    def __str__(self) -> str:
        if self in SHORTHANDS:
            return SHORTHANDS[self]
        given = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"


SHORTHANDS: dict[Strategy, str] = {}
"""The strategies that have a name of their own."""


def check_chunk_size(owner: str, chunk_size: Any, unit: str) -> None:
    """Raise unless a chunk size is None or a positive int."""
    if chunk_size is None:
        return
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int):
        raise TypeError(
            f"{owner}(chunk_size={chunk_size!r}) is {type(chunk_size).__name__}; it must be a "
            f"positive int, the number of {unit} computed at once, or None for all of them."
        )
    if chunk_size < 1:
        raise ValueError(
            f"{owner}(chunk_size={chunk_size}) must be at least 1, the number of {unit} computed "
            f"at once; None computes all of them at once."
        )


def check_unroll(owner: str, unroll: Any, chunk_size: Any) -> None:
    """Raise unless `unroll` is a bool or a positive int, and there are blocks to unroll."""
    if not isinstance(unroll, (bool, int)):
        raise TypeError(
            f"{owner}(unroll={unroll!r}) is {type(unroll).__name__}; it must be a bool (True: one "
            f"copy of the program a block) or an int (blocks per turn of the loop)."
        )
    if not isinstance(unroll, bool) and unroll < 1:
        raise ValueError(f"{owner}(unroll={unroll}) must be at least 1 block per turn of the loop.")
    if (unroll is True or unroll > 1) and chunk_size is None:
        raise ValueError(
            f"{owner}(unroll={unroll!r}) has no blocks to unroll: give chunk_size as well."
        )
