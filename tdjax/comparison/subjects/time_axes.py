"""The time axes of what is compared: the arrays that have one, batch and time size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from tdjax.comparison.hlo import Steps
from tdjax.core.axes import broadcast_axes


def steps_of(args: Sequence[Any], in_axes: Any) -> Steps | None:
    """Return batch and time size, as the first array that has both shows them.

    None where no array has two axes, one of them time.
    """
    for leaf, axis in _mapped(args, in_axes):
        rank = getattr(leaf, "ndim", 0)
        if rank > 1 and -rank <= axis < rank:
            time = axis % rank
            return Steps(batch=leaf.shape[1 if time == 0 else 0], time=leaf.shape[time])
    return None


def streamed(args: Sequence[Any], in_axes: Any) -> list[Any]:
    """Return the leaves that have a time axis: those that are new in every call."""
    return [leaf for leaf, _ in _mapped(args, in_axes)]


def placed_axes(args: Sequence[Any], in_axes: Any) -> dict[int, tuple[int | None, int]]:
    """Return where the leaves that have a time axis have batch and time, by their identity."""
    steps = steps_of(args, in_axes)
    found: dict[int, tuple[int | None, int]] = {}
    for leaf, axis in _mapped(args, in_axes):
        rank = getattr(leaf, "ndim", 0)
        if steps is not None and -rank <= axis < rank:
            time = axis % rank
            batch = 1 if time == 0 else 0
            has_rows = rank > 1 and leaf.shape[batch] == steps.batch
            found[id(leaf)] = (batch if has_rows else None, time)
    return found


def _mapped(args: Sequence[Any], in_axes: Any) -> list[tuple[Any, int]]:
    """Return the leaves with a time axis, each with that axis.

    None of them where the axes do not fit the arguments: the call itself has a better error.
    """
    axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes
    try:
        each = broadcast_axes("in_axes", axes, tuple(args))
    except ValueError:
        return []
    leaves = jax.tree.leaves(tuple(args))
    return [(leaf, axis) for leaf, axis in zip(leaves, each, strict=True) if axis is not None]
