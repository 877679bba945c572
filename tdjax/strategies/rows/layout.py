"""Merges time into the batch, and splits what comes out again."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from tdjax.core.call import Call
from tdjax.core.shared import repeated
from tdjax.independence import Rows


def time_leads(call: Call) -> bool:
    """Say whether folded rows are ordered by step first: with time as axis 0 that moves nothing."""
    axes = {axis for axis, role in zip(call.axes, call.roles, strict=True) if role == "rows"}
    return axes == {0}


def fold_leaf(leaf: Any, axis: int, call: Call) -> Any:
    """Return a leaf `(batch, time, ...)`, time at `axis`, as rows `(batch * time, ...)`.

    Where time is axis 0 of all leaves, the rows are `(time * batch, ...)`.
    """
    batch_axis = 0 if axis else 1
    order = (axis, batch_axis) if time_leads(call) else (batch_axis, axis)
    if order != (0, 1):
        leaf = jnp.moveaxis(leaf, order, (0, 1))
    return leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:])


def rows_first(output: Any, rows: Rows) -> Any:
    """Return a block's output with its rows as leading axis, and nothing else on that axis.

    With `Rows(axis=1, outer=2, inner=3)`, `(7, 2 * n * 3, 5)` becomes `(n, 7, 2, 3, 5)`.
    """
    if rows == Rows(0):
        return output
    shape, axis = output.shape, rows.axis
    count = shape[axis] // (rows.outer * rows.inner)
    split = output.reshape(*shape[:axis], rows.outer, count, rows.inner, *shape[axis + 1 :])
    return jnp.moveaxis(split, axis + 1, 0)


def rows_back(value: Any, rows: Rows) -> Any:
    """Undo `rows_first`."""
    if rows == Rows(0):
        return value
    moved = jnp.moveaxis(value, 0, rows.axis + 1)
    shape, axis = moved.shape, rows.axis
    merged = math.prod(shape[axis : axis + 3])
    return moved.reshape(*shape[:axis], merged, *shape[axis + 3 :])


def unfold(value: Any, rows: Rows, time_axis: int, call: Call) -> Any:
    """Return rows `(batch * time, ...)` as a stacked output with time at `time_axis`."""
    if time_leads(call):
        split = value.reshape(call.time, call.batch, *value.shape[1:])
    else:
        split = value.reshape(call.batch, call.time, *value.shape[1:])
        if rows == Rows(0):
            return jnp.moveaxis(split, 1, time_axis) if time_axis != 1 else split
        split = jnp.moveaxis(split, 1, 0)
    if rows != Rows(0):
        split = jnp.moveaxis(split, 1, rows.axis + 2)
        shape, axis = split.shape, rows.axis + 1
        merged = math.prod(shape[axis : axis + 3])
        split = split.reshape(*shape[:axis], merged, *shape[axis + 3 :])
    return jnp.moveaxis(split, 0, time_axis) if time_axis else split


def repeat(value: Any, time_axis: int | None, time: Any) -> Any:
    """Return an output that all steps share, stacked; as it is if `time_axis` is None."""
    if time_axis is None:
        return value
    shape = (*value.shape[:time_axis], time, *value.shape[time_axis:])
    return repeated(lambda one: jnp.broadcast_to(jnp.expand_dims(one, time_axis), shape), value)
