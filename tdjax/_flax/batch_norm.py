"""What batch normalisation is told about time, in the form that Flax's own layers take it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from tdjax._errors import StrategyError


def with_axes(given: Any, axis_names: tuple[str, ...]) -> tuple:
    """Return the axis names to average over: those that a layer has already, and these."""
    names = (given,) if isinstance(given, str) else tuple(given or ())
    return (*names, *axis_names)


def batch_norm_mask(mask: Any, x: Any, given: Any) -> Any:
    """Return the mask of rows in the shape that BatchNorm reads as such, `(rows, 1, ...)`."""
    each, rest = divmod(x.shape[0], mask.shape[0])
    if rest:
        raise StrategyError(
            f"BatchNorm sees {x.shape[0]} rows where the mask has {mask.shape[0]}: it is not known "
            f"which of them are real. Leave out the mask, or keep the batch as leading axis."
        )
    rows = jnp.repeat(mask, each) if each != 1 else mask
    rows = rows.reshape([-1] + [1] * (x.ndim - 1))
    return rows if given is None else rows & given
