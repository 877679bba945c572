"""Which axis of each leaf is time: pytree prefixes of axes, checked against the arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tdjax.core.errors import describe
from tdjax.core.misfits import difference

Axes = Any
"""An axis (int), None for "shared by all steps", or a pytree prefix of these."""

_is_none = {"is_leaf": lambda leaf: leaf is None}


def check_axes(name: str, axes: Axes) -> None:
    """Raise TypeError unless every leaf of the prefix is an int or None."""
    for leaf in jax.tree.leaves(axes, **_is_none):
        if leaf is not None and (isinstance(leaf, bool) or not isinstance(leaf, int)):
            raise TypeError(
                f"{name} holds {leaf!r} ({type(leaf).__name__}); every leaf must be an int (the "
                f"time axis) or None (no time axis)."
            )


def broadcast_axes(
    name: str, axes: Axes, tree: Any, title: str = "a call", parts: Sequence[str] | None = None
) -> list[int | None]:
    """Return one axis for each leaf of `tree`, from a pytree prefix of axes.

    Args:
        name: what the prefix is called.
        axes, tree: the prefix, and what it describes.
        title: the name of the step function.
        parts: the names of its arguments, if the tree is these; None if it is the output.

    Raises:
        ValueError: it is no prefix of the tree.
    """
    found = _broadcast(axes, tree)
    if found is not None:
        return found
    flat: list[int | None] = []

    def extend(axis: int | None, subtree: Any) -> None:
        flat.extend([axis] * len(jax.tree.leaves(subtree)))

    try:
        jax.tree.map(extend, axes, tree, **_is_none)
    except (ValueError, TypeError):
        place = "the output" if parts is None else "the call"
        said = difference(name, axes, place, tree, parts or ())
        said = said or f"{name} has another structure than {place}"
        raise ValueError(
            f"for {title}, {said}. Give one int or None for all, or a pytree prefix: the same "
            f"nesting, with an int or None at each place."
        ) from None
    return flat


def _broadcast(axes: Axes, tree: Any) -> list[int | None] | None:
    """Return the same where prefix and tree are plain tuples and dicts, in a tenth of the time."""
    if axes is None or type(axes) is int:
        return [axes] * len(jax.tree.leaves(tree))
    if type(axes) is type(tree) is tuple and len(axes) == len(tree):
        pairs = list(zip(axes, tree, strict=True))
    elif type(axes) is type(tree) is dict and axes.keys() == tree.keys():
        pairs = [(axes[key], tree[key]) for key in sorted(axes)]
    else:
        return None
    parts = [_broadcast(*pair) for pair in pairs]
    return None if None in parts else [axis for part in parts for axis in part or ()]


def argument_names(args: tuple, parameters: Sequence[str]) -> list[str]:
    """Return what errors call positional arguments: the names of parameters, as far as they go."""
    return [*parameters[: len(args)], *(f"argument {n}" for n in range(len(parameters), len(args)))]


def leaf_names(args: tuple, roots: Sequence[str]) -> list[str]:
    """Return a name for each leaf of named positional arguments: `x`, `params['kernel']`."""
    names = []
    for root, arg in zip(roots, args, strict=True):
        if isinstance(arg, jax.Array):  # as most are
            names.append(root)
            continue
        paths = (path for path, _ in jax.tree_util.tree_leaves_with_path(arg))
        names.extend(root + jax.tree_util.keystr(path) for path in paths)
    return names


def check_dtype(name: str, leaf: Any) -> None:
    """Raise TypeError for an array of NumPy's that JAX cannot hold, as one of texts."""
    if not isinstance(leaf, np.ndarray):
        return
    try:
        jax.typeof(leaf)
    except TypeError:
        raise TypeError(
            f"{name} is {describe(leaf)}, and JAX has no arrays of the dtype {leaf.dtype}: steps "
            f"take bools, numbers and keys. Convert it, or leave it out of the arguments."
        ) from None


def normalize_in_axis(axis: int, leaf: Any, name: str) -> int:
    """Return the nonnegative time axis of an argument's leaf; raise if its rank is too low."""
    rank = len(leaf.shape)
    if -rank <= axis < rank:
        return axis % rank
    raise ValueError(
        f"{name} is {describe(leaf)}, of rank {rank}: it has no axis {axis} to step over "
        f"(in_axes={axis}, needs rank {axis + 1 if axis >= 0 else -axis} or more). Give it a time "
        f"axis, or share it between all steps with None at its place in in_axes."
    )


def normalize_out_axis(axis: int | None, rank: int, name: str) -> int | None:
    """Return the nonnegative position of time in a stacked output of rank `rank + 1`."""
    if axis is None:
        return None
    if -rank - 1 <= axis <= rank:
        return axis % (rank + 1)
    raise ValueError(
        f"{name} of one step has rank {rank}: time cannot be stacked at axis {axis} "
        f"(out_axes={axis}). Put time at axis {rank} or less: out_axes=0 stacks a scalar per step."
    )


def check_out_axes(
    axes: Sequence[int | None], ranks: Sequence[int], outputs: Any
) -> list[int | None]:
    """Return the nonnegative axes of time in the leaves of an output, of which ranks are known."""
    pairs = list(zip(axes, ranks, strict=True))
    if all(axis is None or 0 <= axis <= rank for axis, rank in pairs):
        return list(axes)  # as it mostly is: no leaf needs a name
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(outputs)]
    return [
        normalize_out_axis(*pair, "the output" + path)
        for pair, path in zip(pairs, paths, strict=True)
    ]


def time_size(
    names: Sequence[str], leaves: Sequence[Any], axes: Sequence[int | None], axis_size: int | None
) -> Any:
    """Return the number of steps that all mapped leaves agree on; `axis_size` if none is mapped.

    Raises:
        ValueError: sizes differ; all are named.
    """
    mapped = [
        (leaf.shape[axis], axis, leaf, name)
        for name, leaf, axis in zip(names, leaves, axes, strict=True)
        if axis is not None
    ]
    if not mapped:
        return axis_size
    sizes = [size for size, *_ in mapped]
    if axis_size is not None:
        sizes.append(axis_size)
    if any(size != sizes[0] for size in sizes):
        lines = [
            f"  {name} is {describe(leaf)}: {size} steps along axis {axis}"
            for size, axis, leaf, name in mapped
        ]
        if axis_size is not None:
            lines.append(f"  axis_size is {axis_size}")
        raise ValueError(
            "the mapped arguments have different numbers of steps:\n"
            + "\n".join(lines)
            + "\nMake them equal, or share an argument with None at its place in in_axes."
        )
    return sizes[0]
