"""Peak figures that makers published, for devices that programs can be compiled for.

Dense bfloat16 products, and the bandwidth of the device's main memory.
"""

from __future__ import annotations

from typing import NamedTuple


class _Chip(NamedTuple):
    """Teraflops a second, gigabytes a second, and the devices that a chip is to JAX."""

    teraflops: float
    gigabytes: float
    source: str
    devices: int = 1


_CLOUD = "bfloat16 peak and memory bandwidth a chip: docs.cloud.google.com/tpu/docs/{}"
_JOUPPI = (
    "bfloat16 peak and memory bandwidth a chip: Jouppi et al., A Domain-Specific Supercomputer "
    "for Training Deep Neural Networks, CACM 63(7), 2020"
)
_NVIDIA = "dense bfloat16 peak and memory bandwidth: NVIDIA, {} data sheet"

_CHIPS = {
    "tpu:v2": _Chip(46, 700, _JOUPPI, devices=2),
    "tpu:v3": _Chip(123, 900, _CLOUD.format("v3"), devices=2),
    "tpu:v4": _Chip(275, 1200, _CLOUD.format("v4")),
    "tpu:v5e": _Chip(197, 819, _CLOUD.format("v5e")),
    "tpu:v5p": _Chip(459, 2765, _CLOUD.format("v5p")),
    "tpu:v6e": _Chip(918, 1638, _CLOUD.format("tpu7x")),
    "tpu:v7x": _Chip(2307, 7380, _CLOUD.format("tpu7x"), devices=2),
    "gpu:a100": _Chip(312, 2039, _NVIDIA.format("A100 80GB SXM")),
    "gpu:h100": _Chip(989, 3350, _NVIDIA.format("H100 SXM")),
    "gpu:h200": _Chip(989, 4800, _NVIDIA.format("H200 SXM")),
    "gpu:b200": _Chip(2250, 8000, _NVIDIA.format("HGX B200")),
}


def peaks(name: str) -> tuple[float, float, str] | None:
    """Return flops a second and bytes a second of one device, and the source; None if unknown.

    Args:
        name: "tpu:v5e", also with a topology: "tpu:v5e:2x4".
    """
    chip = _CHIPS.get(":".join(name.split(":")[:2]))
    if chip is None:
        return None
    source = chip.source
    if chip.devices > 1:
        source += f"; a chip is {chip.devices} devices, each with its share"
    return 1e12 * chip.teraflops / chip.devices, 1e9 * chip.gigabytes / chip.devices, source
