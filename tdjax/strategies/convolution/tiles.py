"""A convolution of three taps along two axes, and the gradient for its kernel, by tiles (Winograd).

In the terms of `window.py`: along an axis with three taps and s = b = r = 1, two outputs next to
each other take six products, and four suffice: with t = p[n, 2 m ... 2 m + 3],

    (t0 - t2) w0,  (t1 + t2) (w0 + w1 + w2) / 2,  (t2 - t1) (w0 - w1 + w2) / 2,  (t1 - t3) w2    (7)

are a, b, c and d, and the outputs 2 m and 2 m + 1 are a + b + c and b - c - d. Along two axes 16
products do for 36, each a product of matrices of all tiles: ((4, 4), tiles, C) @ ((4, 4), C, F). A
gradient for the kernel is as cheap, by the transposes of the same sums. In float32 the sums cost
about one bit. They mix what a tile sees, so that an infinite pixel would reach outputs that do not
see it: where an answer is not finite, it is computed by (1).
    images (8, 28, 28, 64), kernel (3, 3, 64, 64): 16 products (8 x 14 x 14, 64) @ (64, 64)
    Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from tdjax.costs.convolutions import LEAST_FOR_ALL_CORES, images_for_tiles
from tdjax.costs.machine import current_machine
from tdjax.strategies.convolution.window import (
    ConvWindow,
    are_seen,
    channels_last_numbers,
    convolve,
    pad_images,
)

# The sums of (7): what each product takes of the four pixels of a tile and of the three taps, and
# what each output takes of the products. Their transposes give the gradient for the kernel.
_OF_PIXELS = (1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)
_OF_TAPS = (1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)
_OF_PRODUCTS = (1, 1, 1, 0), (0, 1, -1, -1)
_Parts = dict[tuple[int, int], Any]


def takes_tiles(images: Any, kernel: Any, params: Mapping[str, Any]) -> bool:
    """Say whether a convolution is one for tiles, and faster by them on this machine."""
    options = {**params, "dimension_numbers": channels_last_numbers(len(kernel.shape) - 2)}
    enough = are_seen(images.shape[:1]) and (
        images.shape[0] >= images_for_tiles(images, kernel, options)
    )
    return enough and current_machine().takes_tiles


def by_tiles(images: Any, kernel: Any, window: ConvWindow, params: Mapping[str, Any]) -> Any:
    """Return a convolution by tiles of two outputs along both axes: (7)."""
    shape = zip(images.shape[1:-1], window.padding, strict=True)
    sizes = [size + low + high - 2 for size, (low, high) in shape]
    tiles = [-(-size // 2) for size in sizes]
    pixels = _mixed(_OF_PIXELS, _tiles(images, window, tiles))
    weights = _mixed(_OF_TAPS, {(i, j): kernel[i, j] for i in range(3) for j in range(3)})
    products = _multiplied(_flat(pixels), weights, (((1,), (0,)), ((), ())))
    # In memory each, so that they are put side by side by copying.
    out = lax.optimization_barrier(_mixed(_OF_PRODUCTS, products))

    def side_by_side() -> Any:
        shape = (len(images), *tiles, kernel.shape[-1])
        rows = [jnp.stack([out[i, j].reshape(shape) for j in range(2)], 3) for i in range(2)]
        both = jnp.stack(rows, 2).reshape(len(images), *(2 * each for each in tiles), -1)
        return both[:, : sizes[0], : sizes[1]]

    exact = functools.partial(convolve, images, kernel, window, params)
    return lax.cond(_are_finite(out.values()), side_by_side, exact)


def gradient_by_tiles(
    images: Any, cotangent: Any, kernel: Any, window: ConvWindow, exact: Callable[[], Any]
) -> Any:
    """Return the gradient for the kernel of a convolution by tiles; where not finite, `exact()`."""
    sizes = cotangent.shape[1:-1]
    tiles = tuple(-(-size // 2) for size in sizes)
    pixels = _mixed(_OF_PIXELS, _tiles(images, window, tiles))
    edges = [(0, 2 * each - size, 0) for each, size in zip(tiles, sizes, strict=True)]
    whole = lax.pad(cotangent, jnp.zeros((), cotangent.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    pairs = {(i, j): whole[:, i::2, j::2] for i in range(2) for j in range(2)}
    pulled = _mixed(tuple(zip(*_OF_PRODUCTS, strict=True)), pairs)
    products = _multiplied(_flat(pixels), _flat(pulled), (((0,), (0,)), ((), ())))
    found = _mixed(tuple(zip(*_OF_TAPS, strict=True)), products)
    gradient = jnp.stack([found[at] for at in sorted(found)]).reshape(kernel.shape)
    return lax.cond(_are_finite([gradient]), lambda: gradient, exact)


def _tiles(images: Any, window: ConvWindow, tiles: Sequence[int]) -> _Parts:
    """Return what is at each of the 4 x 4 places of all tiles, every two pixels one."""
    edges = []
    for size, (low, _), count in zip(images.shape[1:-1], window.padding, tiles, strict=True):
        edges.append((low, 2 * count + 2 - size - low))
    padded = pad_images(images, window._replace(padding=edges))
    return {
        (i, j): padded[:, i : i + 2 * tiles[0] - 1 : 2, j : j + 2 * tiles[1] - 1 : 2]
        for i in range(4)
        for j in range(4)
    }


def _are_finite(arrays: Iterable[Any]) -> Any:
    """Say whether arrays are finite, and the sums of their columns."""
    flat = [array.reshape(-1, array.shape[-1]) for array in arrays]
    # XLA shares out sums that are products of matrices.
    sums = [jnp.ones((1, len(each)), each.dtype) @ each for each in flat]
    return jnp.isfinite(jnp.stack(sums)).all()


def _flat(parts: _Parts) -> _Parts:
    """Return parts whose tiles are along one axis: several, XLA would contract as a transpose."""
    return {at: part.reshape(-1, part.shape[-1]) for at, part in parts.items()}


def _multiplied(some: _Parts, others: _Parts, numbers: Any) -> _Parts:
    """Return the products of what is at each place: one by one, or of small parts four at once."""
    part = some[0, 0]
    if part.size * part.dtype.itemsize >= LEAST_FOR_ALL_CORES:
        return {at: lax.dot_general(some[at], others[at], numbers) for at in some}
    left, right = ([axis + 1 for axis in axes] for axes in numbers[0])
    found: _Parts = {}
    for i in range(4):
        lhs, rhs = (jnp.stack([parts[i, j] for j in range(4)]) for parts in (some, others))
        products = lax.dot_general(lhs, rhs, ((left, right), ((0,), (0,))))
        found |= {(i, j): products[j] for j in range(4)}
    return found


def _mixed(matrix: Sequence[Sequence[float]], parts: _Parts) -> _Parts:
    """Return the sums of parts that a matrix tells, along both axes of their places."""
    for _ in range(2):  # each time along the first axis, which becomes the last
        others = sorted({place[1] for place in parts})
        parts = {
            (other, row): _weighed(weights, [parts[i, other] for i in range(len(weights))])
            for other in others
            for row, weights in enumerate(matrix)
        }
    return parts


def _weighed(weights: Sequence[float], parts: Sequence[Any]) -> Any:
    """Return the sum of parts times their weights, without those of weight 0."""
    total: Any = None
    for weight, part in zip(weights, parts, strict=True):
        if weight == 0:
            continue
        part = part if abs(weight) == 1 else part * abs(weight)
        if total is None:
            total = part if weight > 0 else -part
        else:
            total = total + part if weight > 0 else total - part
    return total
