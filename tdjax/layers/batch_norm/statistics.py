"""Batch normalisation over more than one step's rows, with the settings of Flax's own layers.

Without a mask Flax averages over named axes by itself. Its means of masked rows would then weigh
alike devices with one real row and with many, so that these are computed here: sums and counts are
added up. Flax's layer normalises with them as it does with running statistics.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.errors import StrategyError
from tdjax.layers.layer import Statistics


def with_axes(given: Any, axis_names: tuple[str, ...]) -> tuple:
    """Return the axis names to average over: those that a layer has already, and these."""
    return (*_tuple(given), *axis_names)


def of_real_rows(layer: Any, x: Any, statistics: Statistics, given: Any) -> tuple[Any, Any]:
    """Return mean and variance of the rows that count, on all devices; 0 where there are none.

    Args:
        layer: a BatchNorm of Linen or NNX.
        x: what it normalises.
        statistics: which rows count, and along which names they are spread.
        given: the mask that the layer was called with, or None.
    """
    axes, dtype = _reduced(layer, x.ndim), _precision(layer, x)
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


def moved_on(layer: Any, running: Any, new: Any) -> Any:
    """Return running statistics after an update, as Flax makes it."""
    return layer.momentum * running + (1 - layer.momentum) * new


@contextlib.contextmanager
def settings(layer: Any, **values: Any) -> Iterator[None]:
    """Have a layer go by other settings, be it frozen or not."""
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


def _reduced(layer: Any, rank: int) -> tuple[int, ...]:
    features = {axis % rank for axis in _tuple(layer.axis)}
    return tuple(axis for axis in range(rank) if axis not in features)


def _precision(layer: Any, x: Any) -> Any:
    dtype = x.dtype if layer.dtype is None else layer.dtype
    if not getattr(layer, "force_float32_reductions", True):
        return dtype
    return jnp.promote_types(dtype, jnp.float32)


def _squared(x: Any) -> Any:
    if not jnp.iscomplexobj(x):
        return jnp.square(x)
    return jnp.square(x.real) + jnp.square(x.imag)


def _row_mask(mask: Any, x: Any, given: Any) -> Any:
    """Return the mask of rows in a shape that goes with `x`."""
    each, rest = divmod(x.shape[0], mask.shape[0])
    if rest:
        raise StrategyError(
            f"BatchNorm sees {x.shape[0]} rows where the mask has {mask.shape[0]}: it is not known "
            f"which of them are real. Leave out the mask, or keep the batch as leading axis."
        )
    rows = jnp.repeat(mask, each) if each != 1 else mask
    rows = rows.reshape([-1] + [1] * (x.ndim - 1))
    return rows if given is None else rows & given
