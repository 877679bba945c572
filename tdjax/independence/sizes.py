"""A size that goes with the number of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from tdjax.independence.kinds import NotProvenError


@dataclasses.dataclass(frozen=True)
class Size:
    """`factor` times the number of rows; what two traces on different numbers of rows agree on."""

    factor: Any

    def __mul__(self, other: Any) -> Size:
        if isinstance(other, Size):
            raise NotProvenError("has rows along more than one axis")
        return Size(self.factor * other)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return divmod(self, other)[0]

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        if isinstance(other, Size):
            return divmod(self.factor, other.factor)
        quotient, remainder = divmod(self.factor, other)
        return Size(quotient), remainder

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        return 0, other

    def __str__(self) -> str:
        return "rows" if self.factor == 1 else f"{self.factor}*rows"

    __repr__ = __str__


ROWS = Size(1)


def merge_sizes(small: Any, large: Any, batch: Any, rows: Any) -> Any:
    """Return what is `small` on a batch of `batch` rows and `large` on one of `rows`.

    Raises:
        NotProvenError: it is no multiple of the number of rows.
    """
    if small == large:
        return large
    factor, rest = divmod(large, rows)
    if rest != 0 or small != factor * batch:
        raise NotProvenError("depends on the number of rows, which a fold changes")
    return Size(factor)


def sizes_of_one_row(sizes: Iterable[Any]) -> tuple[Any, ...]:
    """Return the sizes of an array whose rows are one."""
    return tuple(size.factor if isinstance(size, Size) else size for size in sizes)
