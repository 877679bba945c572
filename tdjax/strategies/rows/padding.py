"""Masked steps: nothing in the padding reaches an answer or a gradient.

Filling padding with zeros is not enough: where the function is singular at zero (a norm, a log),
its gradient there is zero times infinity. A masked row is filled with a copy of a real one instead,
through which no gradient flows, and its output is dropped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.arrays import is_concrete_shape
from tdjax.core.call import Call
from tdjax.independence import Rows


def real_steps(mask: Any) -> Any:
    """Return which steps are real, `(batch, time)`: those with any real extra entry."""
    return mask if mask.ndim == 2 else mask.any(axis=tuple(range(2, mask.ndim)))


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A real row, of which padding becomes copies.

    Attributes:
        row, step: where it is.
        exists: whether there is any.
        steps: which steps have real rows, `(time,)`.
        given: takes what is there, returns what is to be copied.
    """

    row: Any
    step: Any
    exists: Any
    steps: Any
    given: Callable[[Any], Any]


def first_real(real: Any) -> Source:
    """Return the first row that is real."""
    flat = real.reshape(-1)
    where = jnp.argmax(flat)
    row, step = where // real.shape[1], where % real.shape[1]
    return Source(row, step, flat.any(), real.any(axis=0), lambda copy: copy)


def fill(
    call: Call,
    real: Any,
    consts: list[Any],
    leaves: list[Any],
    find: Callable[[Any], Source] = first_real,
) -> tuple[list, list]:
    """Return constants and leaves from which masked rows have vanished, values and gradients.

    With no real row at all there is nothing to copy; then the arrays that all steps share are cut
    off from gradients instead, which would all be zero.
    """
    if is_concrete_shape(real.shape) and real.size == 0:
        return consts, leaves
    source = find(real)

    def guard(array: Any) -> Any:
        if not jnp.issubdtype(array.dtype, jnp.inexact):
            return array
        return jnp.where(source.exists, array, jax.lax.stop_gradient(array))

    filled = []
    for leaf, axis, role in zip(leaves, call.axes, call.roles, strict=True):
        if role == "rows":
            filled.append(_fill_rows(leaf, axis, real, source))
        elif role == "step":
            filled.append(_fill_steps(leaf, axis, source))
        else:
            filled.append(guard(leaf))
    return [guard(jnp.asarray(const)) for const in consts], filled


def _fill_rows(leaf: Any, axis: Any, real: Any, source: Source) -> Any:
    rows_axis = 0 if axis else 1
    copy = jax.lax.dynamic_slice_in_dim(leaf, source.step, 1, axis)
    copy = jax.lax.dynamic_slice_in_dim(copy, source.row, 1, rows_axis)
    keep = real if axis else real.T
    keep = keep.reshape(
        [size if i in (rows_axis, axis) else 1 for i, size in enumerate(leaf.shape)]
    )
    return jnp.where(keep, leaf, source.given(_cut(copy)))


def _fill_steps(leaf: Any, axis: Any, source: Source) -> Any:
    copy = jax.lax.dynamic_slice_in_dim(leaf, source.step, 1, axis)
    keep = source.steps.reshape([-1 if i == axis else 1 for i in range(leaf.ndim)])
    return jnp.where(keep, leaf, source.given(_cut(copy)))


def _cut(copy: Any) -> Any:
    return jax.lax.stop_gradient(copy) if jnp.issubdtype(copy.dtype, jnp.inexact) else copy


def zero(output: Any, time_axis: int | None, rows: Rows | None, real: Any) -> Any:
    """Return a stacked output with its masked steps set to 0.

    Args:
        output: one leaf, time at `time_axis` (None: not stacked, returned as it is).
        time_axis: where time is.
        rows: where one step's output has its rows; None where it has none, and then a step
            counts as masked if all its rows are.
        real: `(batch, time)`, True where a step is real.
    """
    if time_axis is None or jnp.issubdtype(output.dtype, jax.dtypes.extended):
        return output
    shape = list(output.shape)
    moved = jnp.moveaxis(output, time_axis, 0)
    if rows is None:
        keep = real.any(axis=0).reshape([-1] + [1] * (len(shape) - 1))
    else:
        step = moved.shape[1:]
        keep = jnp.broadcast_to(
            real.T[:, None, :, None], (real.shape[1], rows.outer, real.shape[0], rows.inner)
        ).reshape(real.shape[1], *[-1 if i == rows.axis else 1 for i in range(len(step))])
    return jnp.where(jnp.moveaxis(keep, 0, time_axis), output, jnp.zeros((), output.dtype))
