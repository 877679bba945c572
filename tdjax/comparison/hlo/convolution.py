"""How many products a convolution sums."""

from __future__ import annotations

import re
from typing import NamedTuple

from tdjax.comparison.hlo.module import Instruction
from tdjax.comparison.hlo.shape import Shape

_PAIR = re.compile(r"(\w+)=([^ }]+)")


class Window(NamedTuple):
    """A convolution's window along one spatial axis."""

    size: int
    stride: int
    low: int
    dilation: int
    base_dilation: int


def windows(instruction: Instruction) -> list[Window]:
    """Return the windows of a convolution, one for each spatial axis."""
    given = dict(_PAIR.findall(instruction.attributes.get("window", "")))
    sizes = [int(size) for size in given["size"].split("x")] if "size" in given else []

    def per_axis(name: str, default: str) -> list[str]:
        return given[name].split("x") if name in given else [default] * len(sizes)

    return [
        Window(size, int(stride), int(pad.partition("_")[0]), int(dilation), int(base))
        for size, stride, pad, dilation, base in zip(
            sizes,
            per_axis("stride", "1"),
            per_axis("pad", "0_0"),
            per_axis("rhs_dilate", "1"),
            per_axis("lhs_dilate", "1"),
            strict=True,
        )
    ]


def convolution_flops(
    instruction: Instruction, image: Shape, kernel: Shape, result: Shape
) -> float:
    """Count the products of `image` with `kernel` that `result` sums.

    The shapes are those of the forward convolution that `dim_labels` describes.
    """
    labels = instruction.attributes["dim_labels"]
    of_image, _, rest = labels.partition("_")
    of_kernel, _, of_result = rest.partition("->")
    groups = int(instruction.attributes.get("feature_group_count", 1))
    batch_groups = int(instruction.attributes.get("batch_group_count", 1))
    products = image.sizes[of_image.index("f")] // groups
    products *= image.sizes[of_image.index("b")] // batch_groups
    products *= result.sizes[of_result.index("f")]
    for axis, window in enumerate(windows(instruction)):
        label = str(axis)
        products *= _products(
            window,
            image.sizes[of_image.index(label)],
            kernel.sizes[of_kernel.index(label)],
            result.sizes[of_result.index(label)],
        )
    return 2 * products


def _products(window: Window, inputs: int, taps: int, outputs: int) -> int:
    """Count the pairs of an output and a kernel tap that meet an element of the input."""
    found = 0
    for tap in range(taps):
        offset = tap * window.dilation - window.low
        if window.stride == window.base_dilation == 1:
            found += max(0, min(inputs - offset, outputs) - max(-offset, 0))
            continue
        for output in range(outputs):
            element, gap = divmod(output * window.stride + offset, window.base_dilation)
            found += gap == 0 and 0 <= element < inputs
    return found
