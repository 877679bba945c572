"""How a kernel slides over images: what every form of a convolution is written in.

All have one layout, which is the one that XLA's fast kernel takes: images `x[n, i, c]`, batch first
and channels last; kernels `w[k, c, f]`, from channels to features; outputs `y[n, o, f]`. Here i, k
and o stand for one index along each spatial axis. Along an axis there is a stride s, a padding
(low, high), a dilation b of the images and r of the kernel. Let p be the images with b - 1 zeros
between their pixels, and `low` and `high` zeros around them (`pad_images`; what is negative crops):

    p[n, j, c] = x[n, (j - low) / b, c]  where that is a pixel, else 0

The convolution is then (XLA, https://openxla.org/xla/operation_semantics, "Conv")

    y[n, o, f] = sum over k and c of  p[n, o s + k r, c] w[k, c, f]                              (1)

A *tap* is one index k of the kernel. What it sees is a strided slice of p (`pixels_seen`), a pixel
for every output: `seen_k[n, o, c] = p[n, o s + k r, c]`. In these terms (1) is a sum of products of
matrices, of which the forms are made:

    y = sum over k of  seen_k @ w[k]             (N O, C) @ (C, F)                               (2)

With G groups, features and channels are cut into G parts, and (2) holds for each pair of parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from tdjax.core.arrays import has_mesh_axes

_PLAIN = lax.conv_general_dilated_p


class ConvWindow(NamedTuple):
    """How a kernel slides over some spatial axes, as in `jax.lax.conv_general_dilated`."""

    window_strides: Sequence[int]
    padding: Sequence[tuple[int, int]]
    lhs_dilation: Sequence[int]
    rhs_dilation: Sequence[int]

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> ConvWindow:
        """Return the window of a convolution with these parameters."""
        return cls(*(params[name] for name in cls._fields))

    def apart(self, axes: int) -> tuple[ConvWindow, ConvWindow]:
        """Return the window along the first axes, and along the others."""
        return self.along(slice(axes)), self.along(slice(axes, None))

    def along(self, axes: slice) -> ConvWindow:
        """Return the window along some of the axes."""
        return ConvWindow(
            self.window_strides[axes],
            self.padding[axes],
            self.lhs_dilation[axes],
            self.rhs_dilation[axes],
        )

    def reversed(
        self, sizes: Sequence[int], out_sizes: Sequence[int], taps: Sequence[int]
    ) -> ConvWindow:
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
        return ConvWindow(self.lhs_dilation, padding, (1,) * len(taps), self.rhs_dilation)

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


def convolve(images: Any, kernel: Any, window: ConvWindow, params: Mapping[str, Any]) -> Any:
    """Return JAX's own convolution, along the axes of a window."""
    crops = any(type(edge) is int and edge < 0 for edges in window.padding for edge in edges)
    if crops and not has_mesh_axes(images):
        # Before jax 0.12 XLA's fast kernel read beyond the end of images that it was to crop.
        images, whole = pad_images(images, window), len(window.padding)
        window = window._replace(padding=((0, 0),) * whole, lhs_dilation=(1,) * whole)
    numbers = channels_last_numbers(len(window.padding))
    options = {
        **params, **window._asdict(), "dimension_numbers": numbers,
    }  # fmt: skip
    return _PLAIN.bind(images, kernel, **options)


def channels_last_numbers(axes: int) -> lax.ConvDimensionNumbers:
    """Return which axes are which: batch first, channels last."""
    last = (0, axes + 1, *range(1, axes + 1))
    return lax.ConvDimensionNumbers(last, (axes + 1, axes, *range(axes)), last)


def pad_images(images: Any, window: ConvWindow) -> Any:
    """Return images with zeros around and between the pixels of the first spatial axes."""
    edges = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(window.padding, window.lhs_dilation, strict=True)
    ]
    if all(edge == (0, 0, 0) for edge in edges):
        return images
    others = [(0, 0, 0)] * (images.ndim - 1 - len(edges))
    return lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *edges, *others])


def stride_images(images: Any, strides: Sequence[int]) -> Any:
    """Return every pixel that is a multiple of the strides."""
    if all(stride == 1 for stride in strides):
        return images
    return lax.slice(images, (0,) * images.ndim, images.shape, (1, *strides, 1))


def pixels_seen(
    padded: Any, tap: Sequence[int], window: ConvWindow, out_sizes: Sequence[int]
) -> Any:
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


def are_seen(sizes: Sequence[Any]) -> bool:
    """Say whether there are pixels along every axis, and it is known how many."""
    return all(type(size) is int and size > 0 for size in sizes)
