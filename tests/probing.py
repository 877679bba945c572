"""Asks whether a step function is proven to have independent rows, through the public edge."""

from __future__ import annotations

import jax

import tdjax


def refusal(fun, *args, in_axes=1):
    """Return why a fold of `fun` is refused, or None where it is not."""
    folded = tdjax.time_distributed(fun, in_axes=in_axes, out_axes=0, strategy="fold")
    leaves, tree = jax.tree.flatten(args)
    arrays = [leaf for leaf in leaves if hasattr(leaf, "dtype")]

    def call(arrays):
        arrays = iter(arrays)
        merged = [next(arrays) if hasattr(leaf, "dtype") else leaf for leaf in leaves]
        return folded(*jax.tree.unflatten(tree, merged))

    try:
        jax.eval_shape(call, arrays)
    except tdjax.StrategyError as error:
        return str(error)
    return None
