"""What one convolution costs, in the forms that XLA and blocks have of it.

What is said here of XLA for CPUs is measured on two cores (Zen 4), jax 0.10 and 0.12.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from tdjax.costs.traffic import bytes_of
from tdjax.costs.work import Convolutions

# Before jax 0.11 XLA for CPUs computed convolutions along several axes on one core where they were
# to 64 features at most, or of so few values an output: measured (Zen 4, jax 0.10), of kernels
# (3, 3, 16 to 64, 128) and (7, 7, 8, 128), but not of (3, 3, 128, 128) and (7, 7, 16, 128).
_FEW_VALUES = 700
# Pixels of fewer channels are put in order one value at a time, which takes so many times as long.
_FEW_CHANNELS, _SINGLY = 4, 12

APART_FEATURES = range(17, 65)
"""To so many features one along two axes may be taken apart; to more, XLA uses all cores."""

APART_CHANNELS = {2: 32, 3: 16}
"""From how many channels on that gains, by the number of axes."""

LEAST_FOR_ALL_CORES = 2**18
"""Of what a product by tiles takes in bytes: XLA for CPUs computes what is smaller on one core."""

WITH_ZEROS_BETWEEN = 1.25
"""How many times as long XLA for CPUs takes to few features where zeros lie between pixels, at
least, if other blocks are not computed beside them: 1.1 to 1.4 times (64 and 32 features).
"""

OF_TILES = 50
"""How many operations a convolution by tiles takes."""

IN_TILES = 4
"""How many times its images and outputs a convolution by tiles has in memory, written and read.

And how many values it puts in order for an output and channel, where a kernel of 3 x 3 puts 9.
"""

# With fewer channels or features, what tiles take beside products is longer than what they save: of
# 16, gradients took up to three times as long by them.
_FEWEST_IN_TILES = 32

# Of a kernel a channel, what a tap sees is cut out, multiplied and added. Others are taken apart
# into convolutions along the last axis, which take as long to compile as so many equations each.
_FOR_A_PRODUCT, _FOR_A_PART = 3, 5


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution of all rows at once.

    Attributes:
        flops: floating point operations, zeros between pixels left out.
        taps: places of its window.
        axes: along how many it slides.
        rows: rows of the images.
        features, channels: of the kernel.
        values: how many an output is a sum of.
        groups: in how many it is computed.
        between: how many times as many pixels there are with the zeros between them.
        stride: along the first axis.
        image_bytes, bytes: of the images; and of images and outputs.
        tiled_from: of how many images on it gains by tiles; inf where it cannot.
        part_equations: how many equations it is taken apart into, about.
    """

    flops: float
    taps: int
    axes: int
    rows: int
    features: int
    channels: int
    values: float
    groups: int
    between: int
    stride: int
    image_bytes: float
    bytes: float
    tiled_from: float
    part_equations: int

    @classmethod
    def of(cls, eqn: Any) -> Convolution:
        """Return the convolution that an equation is, JAX's or tdjax's own."""
        images, kernel, output = (v.aval for v in (*eqn.invars[:2], *eqn.outvars))
        numbers = eqn.params["dimension_numbers"]
        features, channels, *window = numbers.rhs_spec
        between = math.prod(eqn.params["lhs_dilation"])
        values = math.prod(kernel.shape) / max(1, kernel.shape[features])
        return cls(
            flops=2.0 * math.prod(output.shape) * values / between,
            taps=math.prod(kernel.shape[axis] for axis in window),
            axes=len(window),
            rows=images.shape[numbers.lhs_spec[0]],
            features=kernel.shape[features],
            channels=kernel.shape[channels],
            values=values,
            groups=eqn.params["feature_group_count"],
            between=between,
            stride=eqn.params["window_strides"][0] if window else 1,
            image_bytes=bytes_of(images),
            bytes=bytes_of(images) + bytes_of(output),
            tiled_from=images_for_tiles(images, kernel, eqn.params),
            part_equations=_FOR_A_PART * math.prod(kernel.shape[axis] for axis in window[:-1]),
        )

    @property
    def is_product(self) -> bool:
        """Whether it has one place: a product of matrices."""
        return self.taps == 1

    @property
    def by_channel(self) -> bool:
        """Whether every channel has a kernel of its own."""
        return self.groups == self.features and self.channels == 1

    @property
    def own_equations(self) -> int:
        """How many equations it is in tdjax's form, with a kernel a channel."""
        return _FOR_A_PRODUCT * self.taps

    @property
    def is_tiled(self) -> bool:
        """Whether it can be computed by tiles."""
        return self.tiled_from < math.inf

    @property
    def work(self) -> Convolutions:
        """What it costs, of all rows, where it is neither a product nor by channel."""
        few = self.features in APART_FEATURES or (
            self.features >= APART_FEATURES.stop and self.values < _FEW_VALUES
        )
        narrow = few and self.axes > 1
        whole = self.stride == self.between == self.groups == 1 and self.axes == 2
        apart = whole and self.features in APART_FEATURES and self.channels >= APART_CHANNELS[2]
        singly = _SINGLY if self.values < _FEW_CHANNELS * self.taps else 1
        return Convolutions(
            self.flops,
            packed_values=singly * self.flops / (2 * max(1, self.features)),
            narrow=narrow,
            spaced=self.between > 1,
            apart=narrow and apart,
            tiled=self.is_tiled,
            naive=self.groups > 1 or self.between > 1 or self.axes > 2,
        )


def images_for_tiles(images: Any, kernel: Any, params: Any) -> float:
    """Return of how many images on a convolution gains by tiles of two outputs along two axes.

    From there on all of them have as many tiles as the kernel has channels or features: with fewer
    the sums over the kernel, at each of 16 places, take longer than those over images.

    Args:
        images, kernel: its arguments, or their types.
        params: those of `jax.lax.conv_general_dilated_p`.

    Returns:
        Infinity where tiles cannot compute it.
    """
    numbers = params["dimension_numbers"]
    features, channels, *window = numbers.rhs_spec
    ones = {
        *params["window_strides"], *params["lhs_dilation"], *params["rhs_dilation"],
        params["feature_group_count"], params["batch_group_count"],
    }  # fmt: skip
    sizes = [images.shape[axis] for axis in numbers.lhs_spec[2:]]
    widths = kernel.shape[features], kernel.shape[channels]
    padded = zip(sizes, params["padding"], strict=True)
    fits = (
        [kernel.shape[axis] for axis in window] == [3, 3]
        and ones == {1}
        and min(widths) >= _FEWEST_IN_TILES
        and str(images.dtype) == str(kernel.dtype) == "float32"
        and params["precision"] is params["preferred_element_type"] is None
        and all(type(size) is int and size + low + high >= 3 for size, (low, high) in padded)
    )
    if not fits:
        return math.inf
    outs = [size + sum(edges) - 2 for size, edges in zip(sizes, params["padding"], strict=True)]
    return max(widths) / math.prod(-(-out // 2) for out in outs)
