"""Masked steps: nothing in the padding reaches an answer or a gradient.

Let f compute one row, y_i = f(w, x_i), and let m_i say whether row i is real. The output is to be
z_i = where(m_i, y_i, 0). That alone has the right value, but not the right gradient. With a
cotangent dz, row i adds

    dx_i = (df/dx at x_i)^T where(m_i, dz_i, 0)      dw += (df/dw at x_i)^T where(m_i, dz_i, 0)

and 0 times a derivative that is infinite or NaN is NaN: that of a row's norm, x / |x|, in padding
of zeros; any in padding of NaN. (https://docs.jax.dev/en/latest/faq.html, "Gradients contain NaN
where using where".) So padding is replaced before f sees it, by a real row r of the same call:

    x'_i = where(m_i, x_i, cut(x_r))                   y'_i = f(w, x'_i)

Now every derivative is taken at a real row, where it is finite if the loop's is, and finite times 0
is 0. `where` hands dx_i to real rows alone, and what is cut lets no gradient through: copies add
nothing to dx_r. Real rows do not see the change as long as row i of the output depends on row i of
the input alone: so only functions with independent rows are filled. Others see the padding, as in
the loop.

If no row is real, there is none to copy. Then weights, and all else that the steps share, become
where(any(m), w, cut(w)): the value is the same, and the gradient is exactly 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.arrays import cut, is_concrete_shape, is_inexact
from tdjax.core.call import Call
from tdjax.independence import Rows


def real_steps(mask: Any) -> Any:
    """Return which steps are real, `(batch, time)`: those with any real extra entry."""
    return mask if mask.ndim == 2 else mask.any(axis=tuple(range(2, mask.ndim)))


@dataclasses.dataclass(frozen=True, eq=False)
class RealRow:
    """A real row, which padding becomes copies of.

    Attributes:
        row, step: its indices; on a mesh, those of this device's own first real row.
        exists: whether any row is real; on a mesh, of any device.
        steps: which steps have real rows, `(time,)`.
        fetch: takes the values at these indices, and returns those to copy; on a mesh they may
            come from another device.
    """

    row: Any
    step: Any
    exists: Any
    steps: Any
    fetch: Callable[[Any], Any]


def first_real(real: Any) -> RealRow:
    """Return the first row that is real."""
    flat = real.reshape(-1)
    index = jnp.argmax(flat)
    row, step = index // real.shape[1], index % real.shape[1]
    return RealRow(row, step, flat.any(), real.any(axis=0), lambda copy: copy)


def fill(
    call: Call,
    real: Any,
    consts: list[Any],
    leaves: list[Any],
    find: Callable[[Any], RealRow] = first_real,
) -> tuple[list, list]:
    """Return constants and leaves in which masked rows are copies of a real one.

    Args:
        call: the call that the leaves belong to.
        real: `(batch, time)`, True where a step is real.
        consts: arrays that the step closes over.
        leaves: its arguments.
        find: returns the row to copy.
    """
    if is_concrete_shape(real.shape) and real.size == 0:
        return consts, leaves
    copied = find(real)

    def guard(array: Any) -> Any:
        if not is_inexact(array):
            return array
        return jnp.where(copied.exists, array, cut(array))

    filled = []
    for leaf, axis, role in zip(leaves, call.axes, call.roles, strict=True):
        if role == "rows":
            filled.append(_fill_rows(leaf, axis, real, copied))
        elif role == "step":
            filled.append(_fill_steps(leaf, axis, copied))
        else:
            filled.append(guard(leaf))
    return [guard(jnp.asarray(const)) for const in consts], filled


def _fill_rows(leaf: Any, axis: Any, real: Any, copied: RealRow) -> Any:
    rows_axis = 0 if axis else 1
    copy = jax.lax.dynamic_slice_in_dim(leaf, copied.step, 1, axis)
    copy = jax.lax.dynamic_slice_in_dim(copy, copied.row, 1, rows_axis)
    keep = real if axis else real.T
    keep = keep.reshape(
        [size if i in (rows_axis, axis) else 1 for i, size in enumerate(leaf.shape)]
    )
    return jnp.where(keep, leaf, copied.fetch(cut(copy)))


def _fill_steps(leaf: Any, axis: Any, copied: RealRow) -> Any:
    copy = jax.lax.dynamic_slice_in_dim(leaf, copied.step, 1, axis)
    keep = copied.steps.reshape([-1 if i == axis else 1 for i in range(leaf.ndim)])
    return jnp.where(keep, leaf, copied.fetch(cut(copy)))


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
