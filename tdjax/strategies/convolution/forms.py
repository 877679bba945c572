"""The forms in which a convolution, and the gradient for its kernel, are fastest on a CPU.

In the terms of `window.py`, in which a convolution is (1) or, as a sum over taps, (2).

**Product.** With a single tap (2) has one term: a product of matrices. It takes each pixel alone,
and of a zero makes a zero (as long as weights are finite), so that it may be done before images are
padded and after they are strided, whichever leaves fewer pixels to multiply.
    images (8, 14, 14, 32), kernel (1, 1, 32, 64), stride 2: (8 x 7 x 7, 32) @ (32, 64)

**A kernel a channel** (C = F = G): w[k] is diagonal, and (2) is a sum of K elementwise products.
    images (8, 14, 14, 32), kernel (3, 3, 1, 32): 9 products of (8, 12, 12, 32) with (32,)

**By the taps of the first axis.** Write k = (k1, k'), and let the first axis have s = b = 1. What
comes from one k1 is a convolution along the other axes copies, of each row of each image:

    z[n, i1, o', (k1, f)] = sum over k' and c of  p'[n, i1, o' s' + k' r', c] w[k1, k', c, f]
    y[n, o1, o', f] = sum over k1 of  z[n, o1 + k1 r1 - low1, o', (k1, f)]                       (3)

with p' padded along the other axes. z is one convolution, of N I1 images to K1 F features; (3)
shifts its parts and adds them up. A row outside of the images is one of zeros, which adds 0 w.
    images (8, 14, 14, 32), kernel (3, 3, 32, 64): 112 images (14, 32) to 3 x 64 features

**The gradient for a kernel**, given dy, is read off (1), which is linear in w:

    dw[k, c, f] = sum over n and o of  p[n, o s + k r, c] dy[n, o, f],   dw[k] = seen_k^T @ dy   (4)

a product (C, N O) @ (N O, F) for every tap; with a kernel a channel an elementwise one, the sum of
which is written out along the rows of images. But (4) is itself a convolution, of images with N
channels, one for every c, by a kernel that is as large as the outputs, from N channels to F:

    dw[c, k, f] = sum over o and n of  p[c, k r + o s, n] dy[o, n, f]                            (5)

which is faster than products, along two axes or, where XLA computes that on one core, along one:
the others are taken apart into their taps. Zeros between pixels (b > 1, s = 1) need not be
multiplied: with o = i b + low - k r,

    dw[k, c, f] = sum over n and i of  x[n, i, c] dy[n, i b + low - k r, f]                      (6)

is (4) again, of images dy with a stride b, channels and features exchanged and taps in reverse.
    images (8, 8, 8, 128), kernel (4, 4, 128, 64), b = 2: as of images (8, 16, 16, 64), stride 2

**By tiles**: `tiles.py`, where there are three taps along each of two axes.

**Beside copies of itself**, as where blocks are written out, a convolution has no tiles, which are
fifty operations and are compiled once a block. Where it is differentiated, what XLA computes on one
core is not taken apart either, nor is its gradient: (5) along two axes. Its copies keep the other
cores busy, which takes 0.5 to 0.9 of the time on jax 0.10.

**Groups**, if they are few, are convolutions of their own.

Measured on 2 cores, against what XLA makes of JAX's own (jax 0.10 and 0.12): products 1.1 to 1.7
times faster, their gradients 1 to 2.4 times; a kernel a channel 14 to 33 times, its gradient 4 to
14 times; few groups 2 to 3 times, their gradients 50 to 70 times; gradients with zeros between
pixels 8 to 20 times; convolutions along three axes 2.6 to 5.5 times; those that jax 0.10 leaves to
one core 1.2 to 1.8 times. Others XLA computes as fast, outside of loops.
"""

from __future__ import annotations

import enum
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tdjax.core.arrays import has_mesh_axes
from tdjax.core.shared import dtype_of_sums
from tdjax.costs.convolutions import APART_CHANNELS, APART_FEATURES
from tdjax.costs.machine import current_machine
from tdjax.strategies.convolution.tiles import by_tiles, gradient_by_tiles, takes_tiles
from tdjax.strategies.convolution.window import (
    ConvWindow,
    are_seen,
    convolve,
    pad_images,
    pixels_seen,
    stride_images,
)

# Every tap of a kernel is written out: compiling more takes longer than anyone wants to wait.
_MOST_TAPS = 64
# More groups than this are not written out.
_MOST_GROUPS = 16
# Of a sum over rows of images as many terms are written out, times the taps of a kernel.
_MOST_TERMS = 512


class Copies(enum.Enum):
    """What copies of a convolution there are beside it in a program.

    Copies of blocks that keep nothing may be given the same memory by XLA, and then wait for each
    other. What is kept for a gradient has memory of its own, and copies run at the same time.
    """

    NONE = "none"
    WAITING = "waiting"
    RUNNING = "running"


def convolution(lhs: Any, rhs: Any, copies: Copies, **params: Any) -> Any:
    """Return what `jax.lax.conv_general_dilated` does.

    Args:
        lhs, rhs, params: as of that.
        copies: what copies of it are beside it.
    """
    lhs_spec, rhs_spec, out_spec = params["dimension_numbers"]
    window = ConvWindow.of(params)
    images = _channels_last(lhs, lhs_spec)
    kernel = lax.transpose(rhs, _kernel_order(rhs_spec))
    if has_mesh_axes(lhs) or has_mesh_axes(rhs):
        out = convolve(images, kernel, window, params)
    else:
        out = _in_its_form(images, kernel, window, params, copies)
    return lax.transpose(out, _inverse(_last_order(out_spec)))


def _in_its_form(
    images: Any, kernel: Any, window: ConvWindow, params: Mapping[str, Any], copies: Copies
) -> Any:
    """Return a convolution in the form that is fastest."""
    if _is_product(kernel, **params):
        return _product(images, kernel, window, **params)
    if _is_depthwise(kernel, images, **params):
        return _depthwise(images, kernel, window, params["preferred_element_type"])
    if _has_few_groups(images, kernel, **params):
        parts = zip(_by_group(images, params), _by_group(kernel, params), strict=True)
        one = {**params, "feature_group_count": 1}
        return jnp.concatenate([_in_its_form(x, w, window, one, copies) for x, w in parts], -1)
    if copies is Copies.NONE and takes_tiles(images, kernel, params):
        return by_tiles(images, kernel, window, params)
    if _gains_apart(kernel, images, window, copies, **params):
        return _by_taps(images, kernel, window, params)
    return convolve(images, kernel, window, params)


def has_few_taps(cotangent: Any, lhs: Any, kernel: Any, **params: Any) -> bool:
    """Say whether a convolution is one that `kernel_gradient` is for."""
    numbers = params["dimension_numbers"]
    taps = math.prod(kernel.shape[axis] for axis in numbers.rhs_spec[2:])
    out_sizes = [cotangent.shape[axis] for axis in numbers.out_spec[2:]]
    few = 0 < taps <= _MOST_TAPS and params["batch_group_count"] == 1
    return few and are_seen(out_sizes) and not (has_mesh_axes(cotangent) or has_mesh_axes(lhs))


def kernel_gradient(cotangent: Any, lhs: Any, kernel: Any, copies: Copies, **params: Any) -> Any:
    """Return the gradient of a convolution of `lhs` for a kernel of this shape and dtype."""
    lhs_spec, rhs_spec, out_spec = params["dimension_numbers"]
    order = _kernel_order(rhs_spec)
    sought = jax.ShapeDtypeStruct(tuple(kernel.shape[axis] for axis in order), kernel.dtype)
    images, cotangent = _channels_last(lhs, lhs_spec), _channels_last(cotangent, out_spec)
    found = _gradient(images, cotangent, sought, ConvWindow.of(params), params, copies)
    return lax.transpose(found, _inverse(order))


def _gradient(
    images: Any,
    cotangent: Any,
    kernel: Any,
    window: ConvWindow,
    params: Mapping[str, Any],
    copies: Copies,
) -> Any:
    """Return the gradient for a kernel, in the form that is fastest."""
    *taps, channels, features = kernel.shape
    groups = params["feature_group_count"]
    if _is_one_each(images, cotangent, groups):
        return _depthwise_gradient(images, cotangent, kernel, window)
    if _has_few_groups(images, cotangent, **params):
        parts = zip(_by_group(images, params), _by_group(cotangent, params), strict=True)
        one = {**params, "feature_group_count": 1}
        each = kernel.update(shape=(*taps, channels, features // groups))
        return jnp.concatenate([_gradient(x, dy, each, window, one, copies) for x, dy in parts], -1)
    whole = copies is Copies.RUNNING and features < APART_FEATURES.stop
    axes = 2 if whole else current_machine().gradient_axes
    exact = functools.partial(_by_convolution, images, cotangent, kernel, window, params, axes)
    if copies is Copies.NONE and takes_tiles(images, kernel, params):
        return gradient_by_tiles(images, cotangent, kernel, window, exact)
    return exact()


def _by_convolution(
    images: Any,
    cotangent: Any,
    kernel: Any,
    window: ConvWindow,
    params: Mapping[str, Any],
    left: int,
) -> Any:
    """Return the gradient for a kernel as a convolution along the last `left` axes at most, or as
    products: (4), (5) or (6).
    """
    *taps, channels, features = kernel.shape
    groups, axes = params["feature_group_count"], len(taps)
    slides = groups == 1 and math.prod(taps[-left:]) > 1
    dilated, strided = (any(by > 1 for by in each) for each in (window[2], window[0]))
    if slides and dilated and not strided and are_seen(images.shape[1:-1]):
        turned = window.reversed(images.shape[1:-1], cotangent.shape[1:-1], taps)
        exchanged = kernel.update(shape=(*taps, features, channels))
        found = _by_convolution(cotangent, images, exchanged, turned, params, left)
        return lax.rev(jnp.swapaxes(found, -1, -2), range(axes))
    taken = max(0, axes - left) if slides and not dilated else axes
    over, along = window.apart(taken)
    out_sizes = cotangent.shape[1 : 1 + taken]
    padded = pad_images(images, over)
    rows = math.prod(cotangent.shape[: 1 + taken])
    cotangent = cotangent.reshape(rows, *cotangent.shape[1 + taken :])
    part = kernel.update(shape=kernel.shape[taken:])
    gradients = []
    for tap in itertools.product(*map(range, taps[:taken])):
        seen = pixels_seen(padded, tap, over, out_sizes)
        seen = seen.reshape(rows, *seen.shape[1 + taken :])
        if taken < axes:
            slide = functools.partial(convolve, seen, window=along, params=params)
            gradients.append(jax.linear_transpose(slide, part)(cotangent)[0])
        else:
            gradients.append(_contracted(seen, cotangent, **params).astype(kernel.dtype))
    return jnp.stack(gradients).reshape(kernel.shape)


def _depthwise_gradient(images: Any, cotangent: Any, kernel: Any, window: ConvWindow) -> Any:
    """Return the gradient for a kernel a channel: (4), of sums of elementwise products."""
    exact = dtype_of_sums(images.dtype)
    *taps, _, channels = kernel.shape
    sizes = cotangent.shape[1:-1]
    padded, cotangent = pad_images(images, window).astype(exact), cotangent.astype(exact)
    axis = min(1, len(sizes))
    size = cotangent.shape[axis]
    most = max(1, _MOST_TERMS // math.prod(taps))
    terms = max(count for count in range(1, min(most, size) + 1) if size % count == 0)
    sums = []
    for tap in itertools.product(*map(range, taps)):
        seen = pixels_seen(padded, tap, window, sizes)
        parts = zip(*(jnp.split(each, terms, axis) for each in (seen, cotangent)), strict=True)
        # XLA shares out sums of what is in memory, by products of matrices, and reads it in order.
        total = lax.optimization_barrier(sum(one * other for one, other in parts))
        total = total.reshape(-1, channels)
        sums.append(jnp.ones((1, len(total)), exact) @ total)
    return jnp.concatenate(sums).reshape(kernel.shape).astype(kernel.dtype)


def _contracted(
    seen: Any,
    cotangent: Any,
    feature_group_count: int,
    precision: Any,
    preferred_element_type: Any,
    **_: Any,
) -> Any:
    """Return `seen^T @ cotangent`, `(rows, channels)` and `(rows, features)`, group by group."""
    rows, groups = seen.shape[0], feature_group_count
    contract = functools.partial(
        lax.dot_general, precision=precision, preferred_element_type=preferred_element_type
    )
    if groups == 1:
        return contract(seen, cotangent, (((0,), (0,)), ((), ())))
    seen, cotangent = seen.reshape(rows, groups, -1), cotangent.reshape(rows, groups, -1)
    by_group = contract(seen, cotangent, (((0,), (0,)), ((1,), (1,))))
    return lax.transpose(by_group, (1, 0, 2))


def _has_few_groups(
    images: Any, output: Any, feature_group_count: int, batch_group_count: int, **_: Any
) -> bool:
    return 1 < feature_group_count <= _MOST_GROUPS and batch_group_count == 1


def _by_group(array: Any, params: Mapping[str, Any]) -> list[Any]:
    """Return the channels of each group, or its features."""
    return jnp.split(array, params["feature_group_count"], -1)


def _is_product(kernel: Any, feature_group_count: int, batch_group_count: int, **_: Any) -> bool:
    one_tap = math.prod(kernel.shape[:-2]) == 1
    return one_tap and feature_group_count == batch_group_count == 1


def _product(
    images: Any,
    kernel: Any,
    window: ConvWindow,
    precision: Any,
    preferred_element_type: Any,
    **_: Any,
) -> Any:
    """Return a convolution of a single tap: every pixel is multiplied alone."""
    matrix = kernel.reshape(kernel.shape[-2:])
    contracted = (((images.ndim - 1,), (0,)), ((), ()))
    multiply = functools.partial(
        lax.dot_general,
        dimension_numbers=contracted,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    # With zeros between pixels, padding comes last: those zeros need not be multiplied.
    if any(d > 1 for d in window.lhs_dilation):
        return stride_images(pad_images(multiply(images, matrix), window), window.window_strides)
    return multiply(stride_images(pad_images(images, window), window.window_strides), matrix)


def _is_one_each(images: Any, output: Any, groups: int) -> bool:
    return bool(images.shape[-1] == output.shape[-1] == groups)


def _is_depthwise(
    kernel: Any, images: Any, feature_group_count: int, batch_group_count: int, **_: Any
) -> bool:
    one_each = _is_one_each(images, kernel, feature_group_count) and batch_group_count == 1
    few = math.prod(kernel.shape[:-2]) <= _MOST_TAPS
    return one_each and few and are_seen(images.shape[1:-1])


def _depthwise(images: Any, kernel: Any, window: ConvWindow, dtype: Any) -> Any:
    """Return a convolution of every channel with a kernel of its own."""
    dtype = dtype or images.dtype
    exact = dtype_of_sums(dtype)
    # What all taps read is in memory once; fused, it would be padded anew for every tap.
    padded = lax.optimization_barrier(pad_images(images, window))
    sizes = window.out_sizes(padded.shape[1:-1], kernel.shape[:-2])
    total: Any = None
    each_channel = (1,) * (images.ndim - 1) + kernel.shape[-1:]
    for tap in itertools.product(*map(range, kernel.shape[:-2])):
        seen = pixels_seen(padded, tap, window, sizes).astype(exact)
        added = seen * kernel[tap].astype(exact).reshape(each_channel)
        total = added if total is None else total + added
    return total.astype(dtype)


def _gains_apart(
    kernel: Any,
    images: Any,
    window: ConvWindow,
    copies: Copies,
    preferred_element_type: Any,
    feature_group_count: int,
    batch_group_count: int,
    **_: Any,
) -> bool:
    """Say whether it can be computed by the taps of the first axis, and is faster so."""
    spatial = kernel.ndim - 2
    few = copies is not Copies.RUNNING and spatial == 2 and kernel.shape[-1] in APART_FEATURES
    narrow = few and current_machine().takes_apart
    if spatial != 3 and not narrow:
        return False
    exact = kernel.dtype in (jnp.float32, jnp.float64) and preferred_element_type is None
    many = kernel.shape[-2] >= APART_CHANNELS[spatial] and 1 < kernel.shape[0] <= _MOST_TAPS
    dense = set(window.lhs_dilation) == {1} and window.window_strides[0] == 1
    seen = images.shape[1] + sum(window.padding[0]) - (kernel.shape[0] - 1) * window.rhs_dilation[0]
    able = feature_group_count == batch_group_count == 1 and are_seen((seen, *images.shape[1:-1]))
    return exact and many and dense and able


def _by_taps(images: Any, kernel: Any, window: ConvWindow, params: Mapping[str, Any]) -> Any:
    """Return a convolution by one along all axes but the first, to features of every tap: (3)."""
    over, along = window.apart(1)
    (low, high), dilation = over.padding[0], over.rhs_dilation[0]
    count, rows, *others = images.shape
    taps, *inner, features = kernel.shape
    side_by_side = jnp.moveaxis(kernel, 0, -2).reshape(*inner, taps * features)
    parts = convolve(images.reshape(count * rows, *others), side_by_side, along, params)
    parts = parts.reshape(count, rows, *parts.shape[1:-1], taps, features)
    zero = jnp.zeros((), images.dtype)
    # What a row of zeros adds: nothing, or NaN where a weight is not finite.
    of_zeros = (kernel * zero).sum(tuple(range(1, kernel.ndim - 1)))
    total: Any = None
    for tap in range(taps):
        part = parts[..., tap, :]
        # Output o takes row o + tap * dilation - low: from -before on, and `after` rows too many.
        before, after = low - tap * dilation, high - (taps - 1 - tap) * dilation
        edges = [(0, 0, 0), (before, after, 0), *[(0, 0, 0)] * (part.ndim - 2)]
        part = lax.pad(part, zero, edges)
        row = jnp.arange(-before, rows + after)
        part = lax.select(
            lax.broadcast_in_dim((row >= 0) & (row < rows), part.shape, (1,)),
            part,
            lax.broadcast_in_dim(of_zeros[tap], part.shape, (part.ndim - 1,)),
        )
        total = part if total is None else total + part
    return total


def _channels_last(array: Any, spec: Sequence[int]) -> Any:
    return lax.transpose(array, _last_order(spec))


def _last_order(spec: Sequence[int]) -> tuple[int, ...]:
    return (spec[0], *spec[2:], spec[1])


def _kernel_order(spec: Sequence[int]) -> tuple[int, ...]:
    return (*spec[2:], spec[1], spec[0])


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))
