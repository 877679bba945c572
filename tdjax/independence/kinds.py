"""What a value inside a step function can hold: one value for all rows, or one a row, and where."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any


class Whole(enum.Enum):
    """A value without rows."""

    CONST = "the same for every step"
    STEP = "one value for all rows of a step"
    SUM = "a sum over all rows"


CONST, STEP, SUM = Whole.CONST, Whole.STEP, Whole.SUM


@dataclasses.dataclass(frozen=True)
class Rows:
    """A value with rows along one axis, of size `outer * rows * inner`, in that order.

    `outer` and `inner` are 1 unless a reshape has merged rows with neighboring axes.
    """

    axis: int
    outer: Any = 1
    inner: Any = 1

    def at(self, axis: int) -> Rows:
        """Return the same rows along another axis."""
        return Rows(axis, self.outer, self.inner)


Kind = Whole | Rows


class NotProvenError(Exception):
    """Raised inside the proof, with the reason, where it cannot go on."""


def join(first: Kind, second: Kind) -> Kind:
    """Return the kind of a value that is one or the other."""
    if first == second:
        return first
    if isinstance(first, Rows) or isinstance(second, Rows) or SUM in (first, second):
        raise NotProvenError("joins values whose rows lie in different places")
    return STEP
