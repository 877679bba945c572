"""Holds strategies to the loop in values, gradients and second derivatives, in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from oracle import assert_same, is_array, loop, random_like, steps_of

import tdjax

STRATEGIES = ("fold", tdjax.Fold(chunk_size=5), tdjax.Packed(chunk_size=5), "auto")


def doubles(*shape: int, seed: int = 0) -> Any:
    """Return random numbers, which are float64 where that is enabled."""
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def assert_is_the_loop(
    fun: Callable[..., Any],
    *args: Any,
    in_axes: Any = 1,
    out_axes: Any = 0,
    strategies: Sequence[Any] = STRATEGIES,
    order: int = 2,
    reverse: bool = True,
    rows: Any = 0,
) -> None:
    """Assert that strategies give what the loop gives, with its derivatives.

    Args:
        fun: the step function.
        args: its arguments, time at `in_axes`; at least one leaf has batch and time.
        in_axes, out_axes: as in `time_distributed`.
        strategies: those to hold to it; those that pack are given a mask.
        order: how many derivatives, up to 2.
        reverse: whether it can be differentiated backward; else tangents are compared.
        rows: where the rows are in the output of a step, a prefix of axes.
    """
    with jax.enable_x64(True):
        args = jax.tree.map(lambda leaf: jnp.asarray(leaf) if is_array(leaf) else leaf, args)
        mask = _mask(args, in_axes)

        runs, right = {}, {}
        for strategy in strategies:
            wrapped = tdjax.time_distributed(
                fun, in_axes=in_axes, out_axes=out_axes, strategy=strategy
            )
            masked = mask if "packed" in str(strategy).lower() else None
            right[strategy] = "the loop" if masked is None else "the loop over real rows"
            runs[right[strategy]] = functools.partial(_loop, fun, in_axes, out_axes, masked, rows)
            runs[strategy] = wrapped if masked is None else functools.partial(wrapped, mask=mask)
        found = _derivatives(runs, args, order, reverse)
        for strategy in strategies:
            pairs = zip(NAMES, found[strategy], found[right[strategy]], strict=False)
            for name, ours, theirs in pairs:
                try:
                    assert_same(ours, theirs, scale=1e3)
                except AssertionError as error:
                    raise AssertionError(f"{strategy}, {name}: {error}") from None


NAMES = "values", "first derivatives", "second derivatives"


def _loop(fun: Any, in_axes: Any, out_axes: Any, mask: Any, rows: Any, *args: Any) -> Any:
    return loop(fun, args, in_axes, out_axes, mask=mask, rows=rows)


def _mask(args: tuple, in_axes: Any) -> Any:
    time = steps_of(args, in_axes)[0]
    axes = in_axes if isinstance(in_axes, (tuple, list)) else (in_axes,) * len(args)
    sizes = [
        leaf.shape[0 if axis else 1]
        for axis, arg in zip(axes, args, strict=True)
        if axis is not None
        for leaf in jax.tree.leaves(arg)
        if leaf.ndim > 1
    ]
    kept = np.random.default_rng(1).random((sizes[0], time)) < 0.7
    kept[0, 0] = True
    return jnp.asarray(kept)


def _derivatives(
    runs: dict[Any, Callable[..., Any]], args: tuple, order: int, reverse: bool
) -> dict[Any, list[Any]]:
    """Return values and derivatives of a fixed function of all outputs, of each function.

    All of it is one program, which compiles sooner than many.
    """
    leaves, tree = jax.tree.flatten(args)
    where = [i for i, leaf in enumerate(leaves) if is_array(leaf) and _inexact(leaf)]

    def output(fun: Callable[..., Any], moving: list[Any]) -> Any:
        merged = list(leaves)
        for index, leaf in zip(where, moving, strict=True):
            merged[index] = leaf
        return fun(*jax.tree.unflatten(tree, merged))

    def scalar(fun: Callable[..., Any], moving: list[Any]) -> Any:
        total = jnp.zeros(())
        for seed, leaf in enumerate(jax.tree.leaves(output(fun, moving))):
            if _inexact(leaf):
                size = jnp.abs(leaf) ** 2 if jnp.iscomplexobj(leaf) else jnp.sin(leaf)
                total = total + (size * random_like(size, seed)).sum()
        return total

    def derive(fun: Callable[..., Any], moving: list[Any], direction: list[Any]) -> list[Any]:
        values = output(fun, moving)
        if not moving or order == 0:
            return [values]
        total = functools.partial(scalar, fun)
        if not reverse:
            return [values, jax.jvp(total, (moving,), (direction,))[1]]
        if order == 1:
            return [values, jax.grad(total)(moving)]
        gradient, pullback = jax.vjp(jax.grad(total), moving)
        return [values, gradient, pullback(direction)[0]]

    @jax.jit
    def run(moving: list[Any]) -> list[list[Any]]:
        direction = [random_like(leaf, 7) for leaf in moving]
        return [derive(fun, moving, direction) for fun in runs.values()]

    return dict(zip(runs, run([leaves[i] for i in where]), strict=True))


def _inexact(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))
