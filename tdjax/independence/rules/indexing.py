"""Rules for reading and writing at computed places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

from tdjax.independence.kinds import CONST, STEP, Kind, NotProvenError, Rows
from tdjax.independence.row_numbers import (
    Coordinates,
    Numbers,
    finds_own_rows,
    plain_kind,
    same_for_all,
)
from tdjax.independence.rules.rule import shape_of


def _own_rows(
    eqn: Any, operand: Kind, indices: Numbers | Coordinates, axes: tuple[int, ...]
) -> Rows:
    """Return the layout of the rows of places that are, for every row, in that row.

    Args:
        eqn: what reads or writes there.
        operand: the kind of the array.
        indices: the kind of the places.
        axes: the axis of the array for each coordinate of a place.

    Raises:
        NotProvenError: some row has a place in another row.
    """
    if not isinstance(operand, Rows):
        raise NotProvenError(
            "takes the numbers of the rows for places in an array that has none (an array with an "
            "entry a row must be an argument that leads with the batch)"
        )
    if operand.axis not in axes:
        raise NotProvenError("takes the numbers of the rows for places along another axis")
    if eqn.params["indices_are_sorted"] and axes[0] != operand.axis:
        raise NotProvenError("is promised sorted places (indices_are_sorted), which a fold mixes")
    places = [indices.coordinate(place) for place in range(len(axes))]
    for rows in indices.layouts():
        if eqn.params["indices_are_sorted"] and rows != Rows(0):
            continue
        fits = (
            values is not None and finds_own_rows(values, rows, operand)
            if axis == operand.axis
            else values is None or same_for_all(values, rows)
            for axis, values in zip(axes, places, strict=True)
        )
        if all(fits):
            return rows
    raise NotProvenError(
        "takes the numbers of the rows for places in other rows (`jnp.arange(batch)` may only lead "
        "a row to itself)"
    )


def _check_own(indices: Rows, rank: int, paired: Iterable[int]) -> None:
    """Demand that the rows of places are a batch of places, of which each is by itself."""
    if indices.axis == rank - 1 or indices.axis < 0 or indices.axis in paired:
        raise NotProvenError("takes the rows for the coordinates of a place")


def gather(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Rows read from themselves, all rows of a step the same places, or rows a shared table."""
    operand, indices = kinds[0], plain_kind(kinds[1]) or kinds[1]
    numbers = eqn.params["dimension_numbers"]
    out_rank = len(shape_of(eqn.outvars[0]))
    batch_axes = [axis for axis in range(out_rank) if axis not in numbers.offset_dims]
    if isinstance(indices, (Numbers, Coordinates)):
        rank = len(shape_of(eqn.invars[1]))
        _check_own(indices, rank, numbers.start_indices_batching_dims)
        rows = _own_rows(eqn, operand, indices, tuple(numbers.start_index_map))
        assert isinstance(operand, Rows)
        if eqn.params["slice_sizes"][operand.axis] != 1:
            raise NotProvenError("reads neighboring rows")
        return [rows.at(batch_axes[rows.axis])]
    if isinstance(operand, Rows) and isinstance(indices, Rows):
        pairs = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
        if (operand.axis, indices.axis) not in set(pairs) or operand.at(0) != indices.at(0):
            raise NotProvenError("reads rows at places that other rows say")
        return [indices.at(batch_axes[indices.axis])]
    if isinstance(indices, Rows):
        if operand is not CONST or indices.axis == len(shape_of(eqn.invars[1])) - 1:
            raise NotProvenError("takes the rows for the coordinates of a place")
        if indices.axis in numbers.start_indices_batching_dims:
            raise NotProvenError("pairs the rows with an axis of a shared array")
        _refuse_promises(eqn)
        return [indices.at(batch_axes[indices.axis])]
    assert isinstance(operand, Rows)
    if indices not in (CONST, STEP):
        raise NotProvenError("reads rows at places that are a sum over rows")
    sizes, starts = eqn.params["slice_sizes"], _free_starts(eqn, numbers.start_index_map)
    window = _window_axis(operand.axis, numbers, sizes, shape_of(eqn.invars[0]), starts)
    return [operand.at(sorted(numbers.offset_dims)[window])]


def _refuse_promises(eqn: Any) -> None:
    """Refuse what is promised of the places of one step, which those of all need not keep."""
    for name in ("unique_indices", "indices_are_sorted"):
        if eqn.params[name]:
            raise NotProvenError(
                f"is promised something of the places of one step ({name}), in an array that all "
                "steps share"
            )


def _free_starts(eqn: Any, axes: Iterable[int]) -> tuple[int, ...]:
    """Return the axes along which a whole window need not begin with the first element."""
    clipped = eqn.params["mode"] == jax.lax.GatherScatterMode.CLIP
    return () if clipped else tuple(axes)


def _window_axis(axis: int, numbers: Any, sizes: Any, shape: tuple, starts: tuple) -> int:
    """Return which window axis holds the rows whole, or raise."""
    dropped = set(numbers.collapsed_slice_dims) | set(numbers.operand_batching_dims)
    if axis in dropped or axis in starts or sizes[axis] != shape[axis]:
        raise NotProvenError("picks some of the rows")
    return [other for other in range(len(shape)) if other not in dropped].index(axis)


def scatter(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Rows write into themselves, or all rows of a step write at the same places."""
    operand, indices, updates = kinds[0], plain_kind(kinds[1]) or kinds[1], kinds[2]
    numbers = eqn.params["dimension_numbers"]
    if not isinstance(operand, Rows) or not isinstance(updates, Rows):
        raise NotProvenError("writes rows into a shared array, or a shared array into rows")
    update_rank = len(shape_of(eqn.invars[2]))
    batch_axes = [axis for axis in range(update_rank) if axis not in numbers.update_window_dims]
    if isinstance(indices, (Numbers, Coordinates)):
        rank = len(shape_of(eqn.invars[1]))
        _check_own(indices, rank, numbers.scatter_indices_batching_dims)
        rows = _own_rows(eqn, operand, indices, tuple(numbers.scatter_dims_to_operand_dims))
        if not _writes_one(operand.axis, numbers, shape_of(eqn.invars[2])):
            raise NotProvenError("writes into neighboring rows")
        if updates != rows.at(batch_axes[rows.axis]):
            raise NotProvenError("writes rows into other rows")
        return [operand]
    if isinstance(indices, Rows):
        pairs = zip(
            numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True
        )
        if (operand.axis, indices.axis) not in set(pairs) or not (
            operand.at(0) == indices.at(0) == updates.at(0)
        ):
            raise NotProvenError("writes rows at places that other rows say")
        expected = batch_axes[indices.axis]
    elif indices in (CONST, STEP):
        dropped = set(numbers.inserted_window_dims) | set(numbers.operand_batching_dims)
        shape = shape_of(eqn.invars[0])
        starts = _free_starts(eqn, numbers.scatter_dims_to_operand_dims)
        if operand.axis in dropped or operand.axis in starts:
            raise NotProvenError("writes into some of the rows")
        windows = [axis for axis in range(len(shape)) if axis not in dropped]
        expected = sorted(numbers.update_window_dims)[windows.index(operand.axis)]
    else:
        raise NotProvenError("writes rows at places that are a sum over rows")
    if updates != operand.at(expected):
        raise NotProvenError("writes rows into other rows")
    return [operand]


def _writes_one(axis: int, numbers: Any, updates: tuple) -> bool:
    """Say whether a scatter writes at one position of an axis for each place."""
    dropped = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    if axis in dropped:
        return axis in numbers.inserted_window_dims
    before = sum(other not in dropped for other in range(axis))
    return bool(updates[sorted(numbers.update_window_dims)[before]] == 1)
