"""Rules for what moves values around without looking at them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tdjax.independence.kinds import CONST, STEP, Kind, NotProvenError, Rows
from tdjax.independence.row_numbers import Coordinates, Numbers
from tdjax.independence.rules.rule import (
    every_output,
    keep_off,
    only_first_has_rows,
    same_rows,
    shape_of,
)
from tdjax.independence.sizes import ROWS


def no_step(kinds: list[Kind]) -> Rows:
    """Return the rows of the inputs, and demand that none is one value a step."""
    rows = same_rows(kinds)
    if any(kind is not CONST and not isinstance(kind, Rows) for kind in kinds):
        raise NotProvenError("mixes a value of one step with rows of many")
    return rows


def broadcast_in_dim(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """The rows go where their axis goes; a second axis of rows is caught afterwards."""
    rows = only_first_has_rows(kinds, "takes its shape from data")
    return [rows.at(eqn.params["broadcast_dimensions"][rows.axis])]


def transpose(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """The rows go where the permutation takes their axis."""
    rows = same_rows(kinds)
    return [rows.at(eqn.params["permutation"].index(rows.axis))]


def squeeze(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Axes of size 1 vanish before the rows."""
    rows, gone = same_rows(kinds), eqn.params["dimensions"]
    keep_off(rows, gone, "removes the axis of the rows")
    return [rows.at(rows.axis - sum(axis < rows.axis for axis in gone))]


def expand_dims(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Axes of size 1 appear among the others."""
    rows = same_rows(kinds)
    new = set(eqn.params["dimensions"])
    kept = [axis for axis in range(len(shape_of(eqn.outvars[0]))) if axis not in new]
    return [rows.at(kept[rows.axis])]


def reshape(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Rows may merge with neighboring axes and split off again.

    Row-major order is kept, so an element of row r has the linear index
    `(before * rows + r) * after + rest` on both sides: the products of the sizes before and after
    the rows must agree.
    """
    rows = only_first_has_rows(kinds, "takes its shape from data")
    shape, target = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
    order = eqn.params.get("dimensions")
    if order is not None:  # a transposition comes first
        shape, rows = tuple(shape[axis] for axis in order), rows.at(order.index(rows.axis))
    if rows == Rows(0) and target[:1] == shape[:1]:
        return [rows]
    before = math.prod(shape[: rows.axis]) * rows.outer
    after = rows.inner * math.prod(shape[rows.axis + 1 :])
    for axis, size in enumerate(target):
        outer, left = _divide(before, math.prod(target[:axis]))
        inner, right = _divide(after, math.prod(target[axis + 1 :]))
        if not left and not right and size == outer * ROWS * inner:
            return [Rows(axis, outer, inner)]
    raise NotProvenError(f"reshapes {list(shape)} to {list(target)} across the rows")


def _divide(value: Any, by: Any) -> tuple[Any, bool]:
    if by == 0:
        return 0, True
    quotient, remainder = divmod(value, by)
    return quotient, remainder != 0


def bitcast_convert_type(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Parts of a number appear along a new last axis, and vanish there before the rows."""
    rows = same_rows(kinds)
    ranks = [len(shape_of(atom)) for atom in (eqn.invars[0], eqn.outvars[0])]
    keep_off(rows, range(ranks[1], ranks[0]), "takes the rows for parts of a number")
    return [rows]


def rev(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Axes other than the rows may be reversed."""
    rows = same_rows(kinds)
    keep_off(rows, eqn.params["dimensions"], "reverses the order of the rows")
    return [rows]


def concatenate(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Values of the same rows may be joined along another axis."""
    if any(isinstance(kind, Numbers) for kind in kinds):
        sizes = [shape_of(atom)[-1] for atom in eqn.invars]
        return [_coordinates(eqn, kinds, eqn.params["dimension"], sizes)]
    rows = no_step(kinds)
    if any(kind != rows for kind in kinds):
        raise NotProvenError("joins rows with a value that has none")
    keep_off(rows, (eqn.params["dimension"],), "adds rows to the rows")
    return [rows]


def _coordinates(eqn: Any, kinds: list[Kind], axis: int, sizes: Sequence[int | None]) -> Kind:
    """Return the kind of places, some of whose coordinates are numbers of rows.

    Args:
        eqn: what joins the coordinates.
        kinds: of each of its inputs.
        axis: along which it joins them.
        sizes: how many coordinates each of the inputs has; None for one, without an axis for it.
    """
    data = [kind for kind in kinds if not isinstance(kind, Numbers)]
    rows = no_step(data)
    if any(kind != rows for kind in data) or axis != len(shape_of(eqn.outvars[0])) - 1:
        raise NotProvenError("joins the numbers of the rows with other values")
    coordinates: list[tuple[Any, int | None] | None] = []
    for kind, size in zip(kinds, sizes, strict=True):
        if not isinstance(kind, Numbers):
            coordinates.extend([None] * (size or 1))
        elif kind.axis != rows.axis or kind.inner != rows.outer * rows.inner:
            raise NotProvenError("joins values whose rows lie along different axes")
        else:
            places = [None] if size is None else range(size)
            coordinates.extend((kind.known, place) for place in places)
    return Coordinates(rows.axis, rows.outer, rows.inner, tuple(coordinates))


def stack(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Values of the same rows may be laid side by side along a new axis."""
    if any(isinstance(kind, Numbers) for kind in kinds):
        return [_coordinates(eqn, kinds, eqn.params["axis"], [None] * len(kinds))]
    rows = no_step(kinds)
    if any(kind != rows for kind in kinds):
        raise NotProvenError("lays rows beside a value that has none")
    return [rows.at(rows.axis + (eqn.params["axis"] <= rows.axis))]


def unstack(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Axes other than the rows may be taken apart."""
    rows, axis = same_rows(kinds), eqn.params["axis"]
    keep_off(rows, (axis,), "takes the rows apart")
    return every_output(eqn, rows.at(rows.axis - (axis < rows.axis)))


def split(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Axes other than the rows may be split."""
    rows = same_rows(kinds)
    keep_off(rows, (eqn.params["axis"],), "splits the rows")
    return every_output(eqn, rows)


def tile(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Axes other than the rows may be repeated."""
    rows = same_rows(kinds)
    if eqn.params["reps"][rows.axis] != 1:
        raise NotProvenError("repeats the rows")
    return [rows]


def slice_(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """All rows must be kept; other axes may be cut."""
    rows, axis = same_rows(kinds), same_rows(kinds).axis
    start, limit = eqn.params["start_indices"][axis], eqn.params["limit_indices"][axis]
    strides = eqn.params["strides"]
    size = shape_of(eqn.invars[0])[axis]
    if start != 0 or limit != size or (strides is not None and strides[axis] != 1):
        raise NotProvenError("takes some of the rows")
    return [rows]


def _placed(arrays: Sequence[Kind], starts: Sequence[Kind], what: str) -> Rows:
    """Return the rows of arrays that all have them in one place, of which a step says the place."""
    first = arrays[0]
    alike = all(kind == first for kind in arrays) and all(kind in (CONST, STEP) for kind in starts)
    if not isinstance(first, Rows) or not alike:
        raise NotProvenError(what)
    return first


def dynamic_slice(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """All rows must be kept; the same piece of other axes may be cut from every row of a step."""
    rows = _placed(
        kinds[:1], kinds[1:], "starts a slice at an index that is not shared by all rows"
    )
    if eqn.params["slice_sizes"][rows.axis] != shape_of(eqn.invars[0])[rows.axis]:
        raise NotProvenError("takes some of the rows")
    return [rows]


def dynamic_update_slice(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Every row may get its own piece of the update, at the same place."""
    operand, update, *starts = kinds
    what = "writes into rows something that does not have the same rows"
    operand = _placed([operand, update], starts, what)
    axis = operand.axis
    if shape_of(eqn.invars[0])[axis] != shape_of(eqn.invars[1])[axis]:
        raise NotProvenError("writes into some of the rows")
    return [operand]


def pad(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Axes other than the rows may be padded."""
    rows = only_first_has_rows(kinds, "pads with a value that is not shared by all rows")
    if tuple(eqn.params["padding_config"][rows.axis]) != (0, 0, 0):
        raise NotProvenError("pads the rows")
    return [rows]
