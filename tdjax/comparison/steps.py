"""The batch and time size of what is compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from tdjax._axes import broadcast_axes
from tdjax.comparison.hlo import Steps


def steps_of(args: Sequence[Any], in_axes: Any) -> Steps | None:
    """Return batch and time size, as the first array that has both shows them.

    None where no mapped array has two axes, and where the axes do not fit the arguments: the
    call itself says so better.
    """
    axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes
    try:
        each = broadcast_axes("in_axes", axes, tuple(args))
    except ValueError:
        return None
    for leaf, axis in zip(jax.tree.leaves(tuple(args)), each, strict=True):
        rank = getattr(leaf, "ndim", 0)
        if axis is not None and rank > 1 and -rank <= axis < rank:
            time = axis % rank
            return Steps(batch=leaf.shape[1 if time == 0 else 0], time=leaf.shape[time])
    return None
