"""What does not fit between the arguments or the output of a call and its axes, in words."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from tdjax.core.arrays import is_array

_SHOWN = 6


def nothing_mapped(
    title: str,
    names: Sequence[str],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    axes: Iterable[int | None],
    remedy: str,
) -> str:
    """Return the message for a call of which no positional argument has a time axis.

    Args:
        title: the name of the step function.
        names: what errors call the positional arguments.
        args, kwargs: what it was called with.
        axes: what `in_axes` says of each leaf of the arguments.
        remedy: how the number of steps is given without a time axis, after `or`; "" if it is not.
    """
    remedy = f", or {remedy}" if remedy else ""
    rest, some = iter(axes), any(map(_holds_arrays, (*args, *kwargs.values())))
    found = []
    for name, arg in zip(names, args, strict=True):
        shared = {next(rest) for _ in jax.tree.leaves(arg)} <= {None}
        # Beside arrays, a number that all steps share is as it should be.
        if _holds_arrays(arg) or not (shared and some):
            found.append(_about(name, arg, remedy))
    found += [
        f"{name} was passed by keyword, and keyword arguments are never mapped: pass it by position"
        for name, value in kwargs.items()
        if _holds_arrays(value)
    ]
    if found:
        return f"{title} was given no array to step over: {'; '.join(found)}."
    return (
        f"{title} was called without arguments that are arrays: give it one with a time axis"
        f"{remedy}."
    )


def _about(name: str, arg: Any, remedy: str) -> str:
    """Say why an argument has no time axis."""
    if _holds_arrays(arg):
        return (
            f"{name} has None at its place in in_axes, so that all steps share it: give its time "
            f"axis there{remedy}"
        )
    leaves, kind = jax.tree.leaves(arg), type(arg).__name__
    if isinstance(arg, (list, tuple)) and leaves and all(map(_is_number, leaves)):
        made = f"use jnp.asarray({name})" if name.isidentifier() else "make it one with jnp.asarray"
        return f"{name} is {_a(kind)} of numbers, needed an array: {made}"
    return f"{name} is {reprlib.repr(arg)} ({kind}), needed an array"


def _holds_arrays(tree: Any) -> bool:
    return any(map(is_array, jax.tree.leaves(tree)))


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, (bool, int, float, complex))


def difference(name: str, prefix: Any, place: str, tree: Any, parts: Sequence[str] = ()) -> str:
    """Return the first place where a prefix has another structure than its tree; "" if none.

    Args:
        name: what the prefix is called, as `in_axes`.
        prefix: it; its leaves are ints and None.
        place: what the tree is called, as `the output`.
        tree: it.
        parts: what the children of the tree are called, if not by their place in it.
    """
    if prefix is None or isinstance(prefix, int):
        return ""
    axes, children = _children(prefix), _children(tree)
    if type(prefix) is not type(tree) or axes.keys() != children.keys():
        return f"{name} has {_in_words(prefix)} where {place} has {_in_words(tree)}"
    if _node(prefix) != _node(tree):
        ordered = isinstance(tree, Mapping) and list(prefix) != list(tree)
        part = "the order of its keys" if ordered else "its static fields"
        return f"{name} has {_a(type(tree).__name__)} that differs in {part} from that of {place}"
    named = dict(zip(children, parts, strict=False))
    pairs = ((key, axes[key], named.get(key, place + key), children[key]) for key in axes)
    found = (difference(name + key, axis, where, child) for key, axis, where, child in pairs)
    return next(filter(None, found), "")


def _children(tree: Any) -> dict[str, Any]:
    """Return what a node holds by its place, `[0]`, `['kernel']` or `.kernel`; a leaf by ""."""
    pairs = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: node is not tree)
    return {jax.tree_util.keystr(path): child for path, child in pairs}


def _node(tree: Any) -> Any:
    """Return the structure of a node alone: its type, its keys and its static fields."""
    return jax.tree.structure(tree, is_leaf=lambda node: node is not tree)


def _a(kind: str) -> str:
    """Return the name of a type after its article."""
    return f"{'an' if kind[0] in 'AEIOaeio' else 'a'} {kind}"


def _in_words(tree: Any) -> str:
    """Return what a node is: `one array`, `a tuple of 2`, `a dict with 'kernel', 'bias'`."""
    if tree is None:
        return "None"
    if jax.tree_util.all_leaves([tree]):
        return "one array" if hasattr(tree, "shape") else f"one {type(tree).__name__}"
    kind, children = type(tree).__name__, _children(tree)
    if not isinstance(tree, Mapping) or not children:
        return f"{_a(kind)} of {len(children)}"
    more = [f"{len(tree) - _SHOWN} more"] if len(tree) > _SHOWN else []
    return f"{_a(kind)} with {', '.join([*map(repr, list(tree)[:_SHOWN]), *more])}"
