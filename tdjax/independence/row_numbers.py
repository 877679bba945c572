"""Values that tell one row from another by its number: of use for nothing but to read that row.

Row 2 of a batch is another row of a fold, so a step that computes with `jnp.arange(batch)` is
another function there. But `x[jnp.arange(batch), i]` reads row 2 of the fold for row 2 of the fold,
which is as independent of other rows as can be. So the numbers of rows are followed up to the
places where a rule knows that they find their own rows. Anywhere else they may go only if they turn
out to be the same for all rows, as `jnp.arange(batch) < 0` is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from tdjax.independence.kinds import CONST, Kind, NotProvenError, Rows
from tdjax.independence.known import Known
from tdjax.independence.sizes import Size

_NOWHERE = -1
"""Stands for the axis of the rows in an array that has none."""


def _refuse_to_move() -> NoReturn:
    raise NotProvenError("moves the numbers of the rows, which a fold renumbers")


@dataclasses.dataclass(frozen=True, eq=False)
class Numbers(Rows):
    """A known array that depends on the number of rows: row numbers, or what is made of them.

    Attributes:
        known: the array, in both traces.
        of_rows: whether it is made of arrays with rows, if it has none itself.
    """

    known: Any = None
    of_rows: bool = False

    def at(self, axis: int) -> Rows:
        """Raise NotProvenError: a rule that moves rows does not know what these are."""
        _refuse_to_move()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Numbers):
            return False
        return self is other or (self.axis == other.axis and self.known.equals(other.known))

    def __hash__(self) -> int:
        return hash((Numbers, self.axis))

    @property
    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """The array in both traces."""
        values: tuple[np.ndarray, np.ndarray] = self.known.values
        return values

    def layouts(self) -> Iterator[Rows]:
        """Yield all ways in which the rows may lie along their axis."""
        factor = self.inner
        for outer in range(1, factor + 1):
            if factor % outer == 0:
                yield Rows(self.axis, outer, factor // outer)

    def plain(self) -> Kind | None:
        """Return the kind of the same array without numbers, if it is the same for all rows."""
        if self.axis == _NOWHERE:
            same = not self.of_rows and np.array_equal(*self.values)
            return CONST if same else None
        return next((rows for rows in self.layouts() if same_for_all(self.values, rows)), None)

    def coordinate(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one position along the last axis, in both traces."""
        small, large = self.values
        return small[..., place], large[..., place]


@dataclasses.dataclass(frozen=True, eq=False)
class Coordinates(Rows):
    """Places in an array, some of whose coordinates are known, and others data.

    Attributes:
        coordinates: for each position along the last axis, the known array and where in its last
            axis the coordinate is (None: it has no such axis), or None for data.
    """

    coordinates: tuple[tuple[Known, int | None] | None, ...] = ()

    def at(self, axis: int) -> Rows:
        """Raise NotProvenError: a rule that moves rows does not know what these are."""
        _refuse_to_move()

    def layouts(self) -> Iterator[Rows]:
        """Yield the one way in which the rows lie along their axis, that of the data."""
        yield Rows(self.axis, self.outer, self.inner)

    def plain(self) -> Kind | None:
        """Return the kind of the same array without numbers, if they are the same for all rows."""
        (rows,) = self.layouts()
        known = (self.coordinate(place) for place in range(len(self.coordinates)))
        same = all(values is None or same_for_all(values, rows) for values in known)
        return rows if same else None

    def coordinate(self, place: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return one position along the last axis, in both traces; None for data."""
        found = self.coordinates[place]
        if found is None:
            return None
        known, where = found
        small, large = known.values
        return (small, large) if where is None else (small[..., where], large[..., where])


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """A kind of a known array that does not depend on the number of rows."""

    kind: Kind
    known: Known


def numbers(known: Known, shape: tuple, inputs: Sequence[Any] = ()) -> Numbers:
    """Return the kind of a known array that depends on the number of rows, made of `inputs`."""
    axes = [axis for axis, size in enumerate(shape) if isinstance(size, Size)]
    if len(axes) > 1:
        raise NotProvenError("has rows along more than one axis")
    if not axes:
        of_rows = any(isinstance(recorded(kind), Rows) for kind in inputs)
        return Numbers(_NOWHERE, 1, 1, known, of_rows)
    return Numbers(axes[0], 1, shape[axes[0]].factor, known)


def plain_kind(kind: Any) -> Kind | None:
    """Return a kind without numbers; None if the rows are told from each other by them."""
    if isinstance(kind, Made):
        return kind.kind
    if not isinstance(kind, (Numbers, Coordinates)):
        plain: Kind = kind
        return plain
    try:
        return kind.plain()
    except NotProvenError:  # it cannot be computed
        return None


def counter_of(kind: Any) -> Any:
    """Return the equation that counts the rows for an array; None if none does."""
    if isinstance(kind, Coordinates):
        return next(each[0].counter for each in kind.coordinates if each is not None)
    return kind.known.counter


def recorded(kind: Any) -> Kind:
    """Return a kind as those see it who run a proven program.

    What is made of the number of rows alone has no rows, and is computed wherever it is needed.
    """
    if isinstance(kind, Made):
        return kind.kind
    found: Kind = kind
    everywhere = isinstance(kind, Numbers) and kind.axis == _NOWHERE and not kind.of_rows
    return CONST if everywhere else found


def by_row(array: np.ndarray, rows: Rows) -> np.ndarray:
    """Return an array with its rows leading, and what is merged with them apart."""
    shape, axis = array.shape, rows.axis
    count = shape[axis] // (rows.outer * rows.inner)
    split = array.reshape(*shape[:axis], rows.outer, count, rows.inner, *shape[axis + 1 :])
    return np.moveaxis(split, axis + 1, 0)


def same_for_all(values: tuple[np.ndarray, np.ndarray], rows: Rows) -> bool:
    """Say whether an array is the same for all rows of both traces."""
    small, large = (by_row(array, rows) for array in values)
    if not small.size or not large.size:
        return False
    return bool((small == small[:1]).all() and (large == small[:1]).all())


def finds_own_rows(values: tuple[np.ndarray, np.ndarray], rows: Rows, axis: Rows) -> bool:
    """Say whether every row has positions of its own row, and the same ones within it.

    Args:
        values: positions along an axis, in both traces.
        rows: where the rows of the positions are.
        axis: where the rows of that axis are.
    """
    within = []
    for array in values:
        positions = by_row(array, rows).astype(np.int64)
        count = len(positions)
        if positions.size == 0 or (positions < 0).any():
            return False
        outer, rest = np.divmod(positions, count * axis.inner)
        row, inner = np.divmod(rest, axis.inner)
        own = np.arange(count).reshape([-1] + [1] * (positions.ndim - 1))
        if outer.max() >= axis.outer or (row != own).any():
            return False
        within.append(np.stack([outer, inner], 1))
    small, large = within
    return bool((small == small[:1]).all() and (large == small[:1]).all())
