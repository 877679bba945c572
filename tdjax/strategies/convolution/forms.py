"""The forms in which a convolution, and the gradient for its kernel, are fastest on a CPU.

All have one layout, which is the one that XLA's fast kernel takes: images `x[n, i, c]`, batch first
and channels last; kernels `w[k, c, f]`, from channels to features; outputs `y[n, o, f]`. Here i, k
and o stand for one index along each spatial axis. Along an axis there is a stride s, a padding
(low, high), a dilation b of the images and r of the kernel. Let p be the images with b - 1 zeros
between their pixels, and `low` and `high` zeros around them (`_padded`; a negative number crops):

    p[n, j, c] = x[n, (j - low) / b, c]  where that is a pixel, else 0

The convolution is then (XLA, https://openxla.org/xla/operation_semantics, "Conv")

    y[n, o, f] = sum over k and c of  p[n, o s + k r, c] w[k, c, f]                              (1)

A *tap* is one index k of the kernel. What it sees is a strided slice of p (`_seen`), one pixel for
every output: `seen_k[n, o, c] = p[n, o s + k r, c]`. In these terms (1) is a sum of products of
matrices, of which all forms here are made:

    y = sum over k of  seen_k @ w[k]             (N O, C) @ (C, F)                               (2)

With G groups, features and channels are cut into G parts, and (2) holds for each pair of parts.

**Product.** With a single tap (2) has one term: a product of matrices. It takes each pixel alone,
and of a zero makes a zero (as long as weights are finite), so that it may be done before images are
padded and after they are strided, whichever leaves fewer pixels to multiply.
    images (8, 14, 14, 32), kernel (1, 1, 32, 64), stride 2: (8 x 7 x 7, 32) @ (32, 64)

**A kernel a channel** (C = F = G): w[k] is diagonal, and (2) is a sum of K elementwise products.
    images (8, 14, 14, 32), kernel (3, 3, 1, 32): 9 products of (8, 12, 12, 32) with (32,)

**By the taps of the first axis.** Write k = (k1, k'), and let the first axis have s = b = 1. What
comes from one k1 is a convolution along the other axes alone, of each row of each image:

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

**By tiles** (Winograd). Along an axis with three taps and s = b = r = 1, two outputs next to each
other take six products, and four suffice: with t = p[n, 2 m ... 2 m + 3],

    (t0 - t2) w0,  (t1 + t2) (w0 + w1 + w2) / 2,  (t2 - t1) (w0 - w1 + w2) / 2,  (t1 - t3) w2    (7)

are a, b, c and d, and the outputs 2 m and 2 m + 1 are a + b + c and b - c - d. Along two axes 16
products do for 36, each a product of matrices of all tiles: ((4, 4), tiles, C) @ ((4, 4), C, F). A
gradient for the kernel is as cheap, by the transposes of the same sums. In float32 the sums cost
about one bit. They mix what a tile sees, so that an infinite pixel would reach outputs that do not
see it: where an answer is not finite, it is computed by (1).
    images (8, 28, 28, 64), kernel (3, 3, 64, 64): 16 products (8 x 14 x 14, 64) @ (64, 64)
    Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016

**Groups**, if they are few, are convolutions of their own.

Measured on 2 cores, against what XLA makes of JAX's own (jax 0.10 and 0.12): products 1.1 to 1.7
times faster, their gradients 1 to 2.4 times; a kernel a channel 14 to 33 times, its gradient 4 to
14 times; few groups 2 to 3 times, their gradients 50 to 70 times; gradients with zeros between
pixels 8 to 20 times; convolutions along three axes 2.6 to 5.5 times; those that jax 0.10 leaves to
one core 1.2 to 1.8 times. Others XLA computes as fast, outside of loops.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from tdjax.core.arrays import has_mesh_axes
from tdjax.core.shared import dtype_of_sums
from tdjax.costs.machine import current_machine
from tdjax.costs.work import images_for_tiles

_PLAIN = lax.conv_general_dilated_p
# Every tap of a kernel is written out: compiling more takes longer than anyone wants to wait.
_MOST_TAPS = 64
# Some versions of XLA compute a convolution to so many features on one core; to fewer, or to more,
# they share it out. From fewer channels than that, taking it apart costs more than it gains.
_NARROW = range(17, 65)
_FEWEST_CHANNELS = 16
# More groups than this are not written out.
_MOST_GROUPS = 16
# Of a sum over rows of images as many terms are written out, times the taps of a kernel.
_MOST_TERMS = 512
# The sums of (7): what each product takes of the four pixels of a tile and of the three taps, and
# what each output takes of the products. Their transposes give the gradient for the kernel.
_OF_PIXELS = (1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)
_OF_TAPS = (1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)
_OF_PRODUCTS = (1, 1, 1, 0), (0, 1, -1, -1)
# XLA for CPUs computes what is smaller on one core.
_LEAST_FOR_ALL_CORES = 2**18


_Parts = dict[tuple[int, int], Any]


class _Window(NamedTuple):
    """How a kernel slides over some spatial axes, as in `jax.lax.conv_general_dilated`."""

    window_strides: Sequence[int]
    padding: Sequence[tuple[int, int]]
    lhs_dilation: Sequence[int]
    rhs_dilation: Sequence[int]

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> _Window:
        """Return the window of a convolution with these parameters."""
        return cls(*(params[name] for name in cls._fields))

    def apart(self, axes: int) -> tuple[_Window, _Window]:
        """Return the window along the first axes, and along the others."""
        return self.along(slice(axes)), self.along(slice(axes, None))

    def along(self, axes: slice) -> _Window:
        """Return the window along some of the axes."""
        return _Window(
            self.window_strides[axes],
            self.padding[axes],
            self.lhs_dilation[axes],
            self.rhs_dilation[axes],
        )

    def reversed(
        self, sizes: Sequence[int], out_sizes: Sequence[int], taps: Sequence[int]
    ) -> _Window:
        """Return the window over outputs in which their pixels are seen from the images': (6)."""
        reach = [(count - 1) * by for count, by in zip(taps, self.rhs_dilation, strict=True)]
        lows = [far - low for far, (low, _) in zip(reach, self.padding, strict=True)]
        highs = [
            far + (size - 1) * dilation + 1 - out_size - low
            for far, size, dilation, out_size, low in zip(
                reach, sizes, self.lhs_dilation, out_sizes, lows, strict=True
            )
        ]
        padding = tuple(zip(lows, highs, strict=True))
        return _Window(self.lhs_dilation, padding, (1,) * len(taps), self.rhs_dilation)

    def out_sizes(self, padded: Sequence[int], taps: Sequence[int]) -> tuple[int, ...]:
        """Return how many outputs there are along each axis of padded images.

        The last output o that a kernel of K taps fits at has o s + (K - 1) r <= size - 1.
        """
        return tuple(
            max(0, (size - (count - 1) * dilation - 1) // stride + 1)
            for size, count, dilation, stride in zip(
                padded, taps, self.rhs_dilation, self.window_strides, strict=True
            )
        )


def convolution(lhs: Any, rhs: Any, **params: Any) -> Any:
    """Return what `jax.lax.conv_general_dilated` does."""
    lhs_spec, rhs_spec, out_spec = params["dimension_numbers"]
    window = _Window.of(params)
    images = _channels_last(lhs, lhs_spec)
    kernel = lax.transpose(rhs, _kernel_order(rhs_spec))
    if has_mesh_axes(lhs) or has_mesh_axes(rhs):
        out = _convolve(images, kernel, window, params)
    else:
        out = _in_its_form(images, kernel, window, params)
    return lax.transpose(out, _inverse(_last_order(out_spec)))


def _in_its_form(images: Any, kernel: Any, window: _Window, params: Mapping[str, Any]) -> Any:
    """Return a convolution in the form that is fastest."""
    if _is_product(kernel, **params):
        return _product(images, kernel, window, **params)
    if _is_depthwise(kernel, images, **params):
        return _depthwise(images, kernel, window, params["preferred_element_type"])
    if _has_few_groups(images, kernel, **params):
        parts = zip(_by_group(images, params), _by_group(kernel, params), strict=True)
        one = {**params, "feature_group_count": 1}
        return jnp.concatenate([_in_its_form(x, w, window, one) for x, w in parts], -1)
    if _takes_tiles(images, kernel, params):
        return _by_tiles(images, kernel, window, params)
    if _gains_apart(kernel, images, window, **params):
        return _by_taps(images, kernel, window, params)
    return _convolve(images, kernel, window, params)


def has_few_taps(cotangent: Any, lhs: Any, kernel: Any, **params: Any) -> bool:
    """Say whether a convolution is one that `kernel_gradient` is for."""
    numbers = params["dimension_numbers"]
    taps = math.prod(kernel.shape[axis] for axis in numbers.rhs_spec[2:])
    out_sizes = [cotangent.shape[axis] for axis in numbers.out_spec[2:]]
    few = 0 < taps <= _MOST_TAPS and params["batch_group_count"] == 1
    return few and _are_seen(out_sizes) and not (has_mesh_axes(cotangent) or has_mesh_axes(lhs))


def kernel_gradient(cotangent: Any, lhs: Any, kernel: Any, **params: Any) -> Any:
    """Return the gradient of a convolution of `lhs` for a kernel of this shape and dtype."""
    lhs_spec, rhs_spec, out_spec = params["dimension_numbers"]
    order = _kernel_order(rhs_spec)
    sought = jax.ShapeDtypeStruct(tuple(kernel.shape[axis] for axis in order), kernel.dtype)
    images, cotangent = _channels_last(lhs, lhs_spec), _channels_last(cotangent, out_spec)
    found = _gradient(images, cotangent, sought, _Window.of(params), params)
    return lax.transpose(found, _inverse(order))


def _gradient(
    images: Any, cotangent: Any, kernel: Any, window: _Window, params: Mapping[str, Any]
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
        return jnp.concatenate([_gradient(x, dy, each, window, one) for x, dy in parts], -1)
    if _takes_tiles(images, kernel, params):
        found = _gradient_by_tiles(images, cotangent, kernel, window)
        exact = functools.partial(_by_convolution, images, cotangent, kernel, window, params)
        return lax.cond(_are_finite([found]), lambda: found, exact)
    return _by_convolution(images, cotangent, kernel, window, params)


def _by_convolution(
    images: Any, cotangent: Any, kernel: Any, window: _Window, params: Mapping[str, Any]
) -> Any:
    """Return the gradient for a kernel as a convolution, or as products: (4), (5) or (6)."""
    *taps, channels, features = kernel.shape
    groups, axes = params["feature_group_count"], len(taps)
    left = current_machine().gradient_axes
    slides = groups == 1 and math.prod(taps[-left:]) > 1
    dilated, strided = (any(by > 1 for by in each) for each in (window[2], window[0]))
    if slides and dilated and not strided and _are_seen(images.shape[1:-1]):
        turned = window.reversed(images.shape[1:-1], cotangent.shape[1:-1], taps)
        exchanged = kernel.update(shape=(*taps, features, channels))
        found = _gradient(cotangent, images, exchanged, turned, params)
        return lax.rev(jnp.swapaxes(found, -1, -2), range(axes))
    taken = max(0, axes - left) if slides and not dilated else axes
    over, along = window.apart(taken)
    out_sizes = cotangent.shape[1 : 1 + taken]
    padded = _padded(images, over)
    rows = math.prod(cotangent.shape[: 1 + taken])
    cotangent = cotangent.reshape(rows, *cotangent.shape[1 + taken :])
    part = kernel.update(shape=kernel.shape[taken:])
    gradients = []
    for tap in itertools.product(*map(range, taps[:taken])):
        seen = _seen(padded, tap, over, out_sizes)
        seen = seen.reshape(rows, *seen.shape[1 + taken :])
        if taken < axes:
            convolve = functools.partial(_convolve, seen, window=along, params=params)
            gradients.append(jax.linear_transpose(convolve, part)(cotangent)[0])
        else:
            gradients.append(_contracted(seen, cotangent, **params).astype(kernel.dtype))
    return jnp.stack(gradients).reshape(kernel.shape)


def _depthwise_gradient(images: Any, cotangent: Any, kernel: Any, window: _Window) -> Any:
    """Return the gradient for a kernel a channel: (4), of sums of elementwise products."""
    exact = dtype_of_sums(images.dtype)
    *taps, _, channels = kernel.shape
    sizes = cotangent.shape[1:-1]
    padded, cotangent = _padded(images, window).astype(exact), cotangent.astype(exact)
    axis = min(1, len(sizes))
    size = cotangent.shape[axis]
    most = max(1, _MOST_TERMS // math.prod(taps))
    terms = max(count for count in range(1, min(most, size) + 1) if size % count == 0)
    sums = []
    for tap in itertools.product(*map(range, taps)):
        seen = _seen(padded, tap, window, sizes)
        parts = zip(*(jnp.split(each, terms, axis) for each in (seen, cotangent)), strict=True)
        # XLA shares out sums of what is in memory, by products of matrices, and reads it in order.
        total = lax.optimization_barrier(sum(one * other for one, other in parts))
        total = total.reshape(-1, channels)
        sums.append(jnp.ones((1, len(total)), exact) @ total)
    return jnp.concatenate(sums).reshape(kernel.shape).astype(kernel.dtype)


def _convolve(images: Any, kernel: Any, window: _Window, params: Mapping[str, Any]) -> Any:
    """Return JAX's own convolution, along the axes of a window."""
    crops = any(type(edge) is int and edge < 0 for edges in window.padding for edge in edges)
    if crops and not has_mesh_axes(images):
        # Before jax 0.12 XLA's fast kernel read beyond the end of images that it was to crop.
        images, whole = _padded(images, window), len(window.padding)
        window = window._replace(padding=((0, 0),) * whole, lhs_dilation=(1,) * whole)
    options = {
        **params, **window._asdict(), "dimension_numbers": _numbers(len(window.padding)),
    }  # fmt: skip
    return _PLAIN.bind(images, kernel, **options)


def _numbers(axes: int) -> lax.ConvDimensionNumbers:
    """Return which axes are which: batch first, channels last."""
    last = (0, axes + 1, *range(1, axes + 1))
    return lax.ConvDimensionNumbers(last, (axes + 1, axes, *range(axes)), last)


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


def _are_seen(sizes: Sequence[Any]) -> bool:
    """Say whether there are pixels along every axis, and it is known how many."""
    return all(type(size) is int and size > 0 for size in sizes)


def _is_product(kernel: Any, feature_group_count: int, batch_group_count: int, **_: Any) -> bool:
    one_tap = math.prod(kernel.shape[:-2]) == 1
    return one_tap and feature_group_count == batch_group_count == 1


def _product(
    images: Any,
    kernel: Any,
    window: _Window,
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
        return _strided(_padded(multiply(images, matrix), window), window.window_strides)
    return multiply(_strided(_padded(images, window), window.window_strides), matrix)


def _is_one_each(images: Any, output: Any, groups: int) -> bool:
    return bool(images.shape[-1] == output.shape[-1] == groups)


def _is_depthwise(
    kernel: Any, images: Any, feature_group_count: int, batch_group_count: int, **_: Any
) -> bool:
    one_each = _is_one_each(images, kernel, feature_group_count) and batch_group_count == 1
    few = math.prod(kernel.shape[:-2]) <= _MOST_TAPS
    return one_each and few and _are_seen(images.shape[1:-1])


def _depthwise(images: Any, kernel: Any, window: _Window, dtype: Any) -> Any:
    """Return a convolution of every channel with a kernel of its own."""
    dtype = dtype or images.dtype
    exact = dtype_of_sums(dtype)
    # What all taps read is in memory once; fused, it would be padded anew for every tap.
    padded = lax.optimization_barrier(_padded(images, window))
    sizes = window.out_sizes(padded.shape[1:-1], kernel.shape[:-2])
    total: Any = None
    each_channel = (1,) * (images.ndim - 1) + kernel.shape[-1:]
    for tap in itertools.product(*map(range, kernel.shape[:-2])):
        seen = _seen(padded, tap, window, sizes).astype(exact)
        added = seen * kernel[tap].astype(exact).reshape(each_channel)
        total = added if total is None else total + added
    return total.astype(dtype)


def _gains_apart(
    kernel: Any,
    images: Any,
    window: _Window,
    preferred_element_type: Any,
    feature_group_count: int,
    batch_group_count: int,
    **_: Any,
) -> bool:
    """Say whether it can be computed by the taps of the first axis, and is faster so."""
    spatial = kernel.ndim - 2
    narrow = spatial == 2 and kernel.shape[-1] in _NARROW and current_machine().takes_apart
    if spatial != 3 and not narrow:
        return False
    exact = kernel.dtype in (jnp.float32, jnp.float64) and preferred_element_type is None
    many = kernel.shape[-2] >= _FEWEST_CHANNELS and 1 < kernel.shape[0] <= _MOST_TAPS
    dense = set(window.lhs_dilation) == {1} and window.window_strides[0] == 1
    seen = images.shape[1] + sum(window.padding[0]) - (kernel.shape[0] - 1) * window.rhs_dilation[0]
    able = feature_group_count == batch_group_count == 1 and _are_seen((seen, *images.shape[1:-1]))
    return exact and many and dense and able


def _by_taps(images: Any, kernel: Any, window: _Window, params: Mapping[str, Any]) -> Any:
    """Return a convolution by one along all axes but the first, to features of every tap: (3)."""
    over, along = window.apart(1)
    (low, high), dilation = over.padding[0], over.rhs_dilation[0]
    count, rows, *others = images.shape
    taps, *inner, features = kernel.shape
    side_by_side = jnp.moveaxis(kernel, 0, -2).reshape(*inner, taps * features)
    parts = _convolve(images.reshape(count * rows, *others), side_by_side, along, params)
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


def _takes_tiles(images: Any, kernel: Any, params: Mapping[str, Any]) -> bool:
    options = {**params, "dimension_numbers": _numbers(len(kernel.shape) - 2)}
    enough = _are_seen(images.shape[:1]) and (
        images.shape[0] >= images_for_tiles(images, kernel, options)
    )
    return enough and current_machine().takes_tiles


def _by_tiles(images: Any, kernel: Any, window: _Window, params: Mapping[str, Any]) -> Any:
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

    exact = functools.partial(_convolve, images, kernel, window, params)
    return lax.cond(_are_finite(out.values()), side_by_side, exact)


def _gradient_by_tiles(images: Any, cotangent: Any, kernel: Any, window: _Window) -> Any:
    """Return the gradient for the kernel of a convolution by tiles."""
    sizes = cotangent.shape[1:-1]
    tiles = tuple(-(-size // 2) for size in sizes)
    pixels = _mixed(_OF_PIXELS, _tiles(images, window, tiles))
    edges = [(0, 2 * each - size, 0) for each, size in zip(tiles, sizes, strict=True)]
    whole = lax.pad(cotangent, jnp.zeros((), cotangent.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    pairs = {(i, j): whole[:, i::2, j::2] for i in range(2) for j in range(2)}
    pulled = _mixed(tuple(zip(*_OF_PRODUCTS, strict=True)), pairs)
    products = _multiplied(_flat(pixels), _flat(pulled), (((0,), (0,)), ((), ())))
    found = _mixed(tuple(zip(*_OF_TAPS, strict=True)), products)
    return jnp.stack([found[at] for at in sorted(found)]).reshape(kernel.shape)


def _tiles(images: Any, window: _Window, tiles: Sequence[int]) -> _Parts:
    """Return what is at each of the 4 x 4 places of all tiles, every two pixels one."""
    edges = []
    for size, (low, _), count in zip(images.shape[1:-1], window.padding, tiles, strict=True):
        edges.append((low, 2 * count + 2 - size - low))
    padded = _padded(images, window._replace(padding=edges))
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
    if part.size * part.dtype.itemsize >= _LEAST_FOR_ALL_CORES:
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


def _padded(images: Any, window: _Window) -> Any:
    """Return images with zeros around and between the pixels of the first spatial axes."""
    edges = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(window.padding, window.lhs_dilation, strict=True)
    ]
    if all(edge == (0, 0, 0) for edge in edges):
        return images
    others = [(0, 0, 0)] * (images.ndim - 1 - len(edges))
    return lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *edges, *others])


def _strided(images: Any, strides: Sequence[int]) -> Any:
    """Return every pixel that is a multiple of the strides."""
    if all(stride == 1 for stride in strides):
        return images
    return lax.slice(images, (0,) * images.ndim, images.shape, (1, *strides, 1))


def _seen(padded: Any, tap: Sequence[int], window: _Window, out_sizes: Sequence[int]) -> Any:
    """Return the pixels that one tap of the kernel sees, one for every output: o s + k r."""
    axes = len(tap)
    if 0 in out_sizes:
        return padded[(slice(None), *(slice(0, size) for size in out_sizes))]
    starts = [at * dilation for at, dilation in zip(tap, window.rhs_dilation, strict=True)]
    limits = [
        start + (size - 1) * stride + 1
        for start, size, stride in zip(starts, out_sizes, window.window_strides, strict=True)
    ]
    others = padded.shape[1 + axes :]
    return lax.slice(
        padded,
        (0, *starts, *(0 for _ in others)),
        (padded.shape[0], *limits, *others),
        (1, *window.window_strides, *(1 for _ in others)),
    )


def _channels_last(array: Any, spec: Sequence[int]) -> Any:
    return lax.transpose(array, _last_order(spec))


def _last_order(spec: Sequence[int]) -> tuple[int, ...]:
    return (spec[0], *spec[2:], spec[1])


def _kernel_order(spec: Sequence[int]) -> tuple[int, ...]:
    return (*spec[2:], spec[1], spec[0])


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))
