"""Rules for reading and writing at computed places."""

from __future__ import annotations

from typing import Any

from tdjax.independence.kinds import CONST, Kind, NotProvenError, Rows
from tdjax.independence.rules.rule import shape_of


def gather(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Rows read from themselves, all rows read the same places, or rows read a shared table."""
    operand, indices = kinds
    numbers = eqn.params["dimension_numbers"]
    out_rank = len(shape_of(eqn.outvars[0]))
    batch_axes = [axis for axis in range(out_rank) if axis not in numbers.offset_dims]
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
        return [indices.at(batch_axes[indices.axis])]
    assert isinstance(operand, Rows)
    if indices is not CONST:
        raise NotProvenError("reads rows of many steps at places that one step says")
    window = _window_axis(operand.axis, numbers, eqn.params["slice_sizes"], shape_of(eqn.invars[0]))
    return [operand.at(sorted(numbers.offset_dims)[window])]


def _window_axis(axis: int, numbers: Any, sizes: Any, shape: tuple) -> int:
    """Return which window axis holds the rows whole, or raise."""
    dropped = set(numbers.collapsed_slice_dims) | set(numbers.operand_batching_dims)
    if axis in dropped or axis in numbers.start_index_map or sizes[axis] != shape[axis]:
        raise NotProvenError("picks some of the rows")
    return [other for other in range(len(shape)) if other not in dropped].index(axis)


def scatter(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Rows write into themselves, or all rows write at the same places."""
    operand, indices, updates = kinds
    numbers = eqn.params["dimension_numbers"]
    if not isinstance(operand, Rows) or not isinstance(updates, Rows):
        raise NotProvenError("writes rows into a shared array, or a shared array into rows")
    update_rank = len(shape_of(eqn.invars[2]))
    batch_axes = [axis for axis in range(update_rank) if axis not in numbers.update_window_dims]
    if isinstance(indices, Rows):
        pairs = zip(
            numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True
        )
        if (operand.axis, indices.axis) not in set(pairs) or not (
            operand.at(0) == indices.at(0) == updates.at(0)
        ):
            raise NotProvenError("writes rows at places that other rows say")
        expected = batch_axes[indices.axis]
    elif indices is CONST:
        dropped = set(numbers.inserted_window_dims) | set(numbers.operand_batching_dims)
        shape = shape_of(eqn.invars[0])
        if operand.axis in dropped or operand.axis in numbers.scatter_dims_to_operand_dims:
            raise NotProvenError("writes into some of the rows")
        windows = [axis for axis in range(len(shape)) if axis not in dropped]
        expected = sorted(numbers.update_window_dims)[windows.index(operand.axis)]
    else:
        raise NotProvenError("writes rows of many steps at places that one step says")
    if updates != operand.at(expected):
        raise NotProvenError("writes rows into other rows")
    return [operand]
