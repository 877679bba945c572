"""Batch statistics over several steps, devices and masks, with the options of Flax's own layers.

For one feature, let step t of device d have n real rows, with the sum s and the sum of squares q
(all three depend on t and d). Over all of them,

    N = sum n        mean = (sum s) / N        variance = (sum q) / N - mean^2

or, where Flax's `use_fast_variance` is off, variance = (sum of (x - mean)^2) / N in a second pass.

Without a mask all n are equal, and the same follows from averages: mean is the mean of the steps'
s / n, and variance the mean of their q / n, minus mean^2. Flax does this itself, given the names of
axes to average over. (The mean of the steps' variances would be too small: it lacks the variance of
their means.)

With a mask, steps have different n, and such averages weigh a step with one real row like one with
four. With rows 1, 1, 1, 1 in a step and 6 in another, mean = (4 + 6) / 5 = 2, not
(1 + 6) / 2 = 3.5. So sums and counts are added up here, over devices by `psum`, and Flax's layer
normalizes with the result as it does with running statistics. Running statistics are updated once,
r <- m r + (1 - m) mean, as for one batch of N rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.errors import StrategyError
from tdjax.layers.layer import Statistics


def merge_names(given: Any, axis_names: tuple[str, ...]) -> tuple:
    """Return the names of axes to average over: those of the layer, and these."""
    return (*_tuple(given), *axis_names)


def pool_rows(layer: Any, x: Any, statistics: Statistics, given: Any) -> tuple[Any, Any]:
    """Return mean and variance of the rows that count, on all devices; 0 if there are none.

    Args:
        layer: a BatchNorm of Linen or NNX.
        x: what it normalizes.
        statistics: which rows count, and the named axes that they are spread over.
        given: the mask that the layer was called with, or None.
    """
    axes, dtype = _reduced_axes(layer, x.ndim), _reduction_dtype(layer, x)
    x = x.astype(dtype)
    real = jnp.broadcast_to(_row_mask(statistics.mask, x, given), x.shape)

    def mean(*values: Any) -> list[Any]:
        sums = [value.sum(axes, where=real) for value in values]
        count = real.sum(axes).astype(sums[-1].dtype)
        count, *sums = jax.lax.psum([count, *sums], statistics.axis_names)
        means = [total / jnp.maximum(count, 1) for total in sums]
        if layer.axis_name is None:
            return means
        return jax.lax.pmean(means, layer.axis_name, axis_index_groups=layer.axis_index_groups)

    if layer.use_fast_variance:
        first, second = mean(x, _squared(x))
        return first, jnp.maximum(second - _squared(first), 0)
    (first,) = mean(x)
    (variance,) = mean(_squared(x - jnp.expand_dims(first, axes)))
    return first, variance


def update_running(layer: Any, running: Any, new: Any) -> Any:
    """Return running statistics after an update, with the formula of Flax."""
    return layer.momentum * running + (1 - layer.momentum) * new


@contextlib.contextmanager
def overriding(layer: Any, **values: Any) -> Iterator[None]:
    """Set attributes of a layer, frozen or not, and set them back."""
    given = {name: getattr(layer, name) for name in values}
    try:
        for name, value in values.items():
            object.__setattr__(layer, name, value)
        yield
    finally:
        for name, value in given.items():
            object.__setattr__(layer, name, value)


def _tuple(value: Any) -> tuple:
    several = isinstance(value, Iterable) and not isinstance(value, str)
    return tuple(value) if several else () if value is None else (value,)


def _reduced_axes(layer: Any, rank: int) -> tuple[int, ...]:
    features = {axis % rank for axis in _tuple(layer.axis)}
    return tuple(axis for axis in range(rank) if axis not in features)


def _reduction_dtype(layer: Any, x: Any) -> Any:
    dtype = x.dtype if layer.dtype is None else layer.dtype
    if not getattr(layer, "force_float32_reductions", True):
        return dtype
    return jnp.promote_types(dtype, jnp.float32)


def _squared(x: Any) -> Any:
    if not jnp.iscomplexobj(x):
        return jnp.square(x)
    return jnp.square(x.real) + jnp.square(x.imag)


def _row_mask(mask: Any, x: Any, given: Any) -> Any:
    """Return the mask of rows in a shape that broadcasts with `x`."""
    each, rest = divmod(x.shape[0], mask.shape[0])
    if rest:
        raise StrategyError(
            f"BatchNorm sees {x.shape[0]} rows where the mask has {mask.shape[0]}: it is not known "
            f"which of them are real. Leave out the mask, or keep the batch as leading axis."
        )
    rows = jnp.repeat(mask, each) if each != 1 else mask
    rows = rows.reshape([-1] + [1] * (x.ndim - 1))
    return rows if given is None else rows & given
