"""Runs a body over blocks of a leading axis: scanned or unrolled, with remat, any remainder.

Of n entries in blocks of B, the last block may have fewer than B, and the body is traced for B. It
is filled up with the entries that come first, and what they give there is dropped:

    n = 5, B = 2:    (x0 x1) (x2 x3) (x4 x0')  ->  (y0 y1) (y2 y3) (y4 --)

Why copies, and not zeros: the body may be singular at zero. The dropped output has the cotangent 0,
but the gradient for weights w adds (df/dw at the entry) 0, which is NaN where df/dw is infinite. At
an entry of the call it is infinite only where the loop's own gradient is not finite either. For the
same reason no gradient flows from a copy to the entry that it was made of (`_cut`): the loop would
not add (df/dx) 0 to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.arrays import cut, has_mesh_axes, is_symbolic
from tdjax.core.errors import StrategyError
from tdjax.strategies.rows.recomputing import recomputing

Body = Callable[[list[Any]], list[Any]]


def in_blocks(
    body: Body, leaves: list[Any], size: Any, block: int, unroll: bool | int, remat: bool
) -> list[Any]:
    """Return what `body` gives for the whole leading axis, computed `block` entries at a time.

    Args:
        body: takes leaves with a leading axis of `block` entries, returns outputs with the same.
        leaves: arrays of leading size `size`.
        size: how many entries there are, at least `block`.
        block: how many entries the body takes.
        unroll: True for one copy of the body a block; else the bodies per turn of a loop.
        remat: recompute the body in the backward pass instead of keeping what it computed.
    """
    if is_symbolic(size):
        raise StrategyError(
            f"blocks of {block} need a known size, but the size is {size}, a symbol: use the "
            f'strategy "vmap" or "fold" without chunk_size to export with symbolic sizes.'
        )
    if size == block:
        return (recomputing(body) if remat else body)(leaves)
    if unroll is True:
        return _unrolled(recomputing(body) if remat else body, leaves, size, block)
    return _scanned(body, leaves, size, block, max(1, int(unroll)), remat)


def _unrolled(body: Body, leaves: list[Any], size: int, block: int) -> list[Any]:
    full = _filled(leaves, size, block)
    parts = [
        body([jax.lax.slice_in_dim(leaf, start, start + block) for leaf in full])
        for start in range(0, size, block)
    ]
    last = size - (len(parts) - 1) * block
    parts[-1] = [output[:last] for output in parts[-1]]
    return [jnp.concatenate(pieces) for pieces in zip(*parts, strict=True)]


def _scanned(
    body: Body, leaves: list[Any], size: int, block: int, unroll: int, remat: bool
) -> list[Any]:
    count = -(-size // block)
    full = _filled(leaves, size, block)
    shapes = [(block, *leaf.shape[1:]) for leaf in full]
    stacked = [_stacked(leaf, count, block) for leaf in full]
    features: list[tuple[int, ...]] = []

    def shaped(xs: list[Any]) -> list[Any]:
        return body([x.reshape(shape) for x, shape in zip(xs, shapes, strict=True)])

    # XLA cannot merge what a scan recomputes with its forward pass: the guard against that costs.
    run = recomputing(shaped, prevent_cse=False) if remat else shaped

    def one(carry: None, xs: list[Any]) -> tuple[None, list[Any]]:
        outputs = run(xs)
        features[:] = [output.shape[1:] for output in outputs]
        return carry, [_apart(output) for output in outputs]

    _, outputs = jax.lax.scan(one, None, stacked, unroll=unroll)
    return [
        output.reshape(count * block, *shape)[:size]
        for output, shape in zip(outputs, features, strict=True)
    ]


def _stacked(leaf: Any, count: int, block: int) -> Any:
    """Return a leaf with an axis of blocks, each of them flat if it has one row.

    XLA may give an axis of size one any stride in memory, and would then copy the whole array.
    """
    if block > 1 or has_mesh_axes(leaf):
        return leaf.reshape(count, block, *leaf.shape[1:])
    return leaf.reshape(count, math.prod(leaf.shape[1:]))


def _apart(output: Any) -> Any:
    """Return an output in a shape of its own, its elements in the same order.

    XLA starts all outputs of one shape from the same buffer of zeros, and keeps a copy of it. Those
    of the backward loop, which are shaped as the inputs, are among them.
    """
    if output.ndim < 4 or has_mesh_axes(output):
        return output
    rows, size, *features = output.shape
    return output.reshape(rows * size, *features)


def _filled(leaves: list[Any], size: int, block: int) -> list[Any]:
    """Return leaves whose leading axis is a whole number of blocks."""
    missing = -size % block
    if not missing:
        return leaves
    return [jnp.concatenate([leaf, cut(leaf[:missing])]) for leaf in leaves]
