"""How fast a device can be at best: the two roofs of the roofline model.

A device that is here is measured; one that is not has the figures that its maker published.

References:
    S. Williams, A. Waterman and D. Patterson, Roofline: An Insightful Visual Performance Model
    for Multicore Architectures, CACM 52(4), 2009.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from tdjax.comparison import numbers
from tdjax.comparison.system import memory
from tdjax.core.typed import Positive

_SAMPLE_S = 0.015
_SAMPLES = 4
_FIRST_WIDTH = 1024
_FIRST_BYTES = 2**26
_SHARE = 1 / 32
_SCARCE = 2**30


@dataclass(frozen=True)
class Ceilings:
    """What a device reaches at best.

    Attributes:
        flops_per_s: floating point operations a second.
        bytes_per_s: bytes a second that its main memory reads and writes.
        source: where the figures are from.
    """

    flops_per_s: Positive
    bytes_per_s: Positive
    source: str

    @property
    def ridge(self) -> float:
        """The intensity, in flops a byte, under which memory is what limits a program."""
        return self.flops_per_s / self.bytes_per_s

    def at(self, intensity: float) -> float:
        """Return the flops a second that a program of this intensity reaches at best."""
        return min(self.flops_per_s, intensity * self.bytes_per_s)


def published(teraflops: float, gigabytes: float, source: str, devices: int = 1) -> Ceilings:
    """Return what one device reaches at best, by its maker's figures.

    Args:
        teraflops: floating point operations a second of a chip, in 1e12.
        gigabytes: bytes a second of its memory, in 1e9.
        source: where the figures are from.
        devices: how many devices a chip is to JAX; each has its share.
    """
    if devices > 1:
        source += f"; a chip is {devices} devices, each with its share"
    return Ceilings(1e12 * teraflops / devices, 1e9 * gigabytes / devices, source)


def measure(device: jax.Device) -> Ceilings:
    """Measure an attached device: the best of a few large matrix products and copies.

    Both are float32, at JAX's default precision: what a program gets by default.
    The copy is in place, so that no fresh memory is mapped while the clock runs.

    Raises:
        jax.errors.JaxRuntimeError: the device's memory is taken.
    """
    room = _SHARE * _free(device)
    with jax.default_device(device):
        width, flops_per_s = _multiply(room)
        size, bytes_per_s = _copy(room)
    source = (
        f"measured here: float32 product of {width} x {width} matrices, "
        f"copy of {numbers.memory(size)}"
    )
    return Ceilings(flops_per_s, bytes_per_s, source)


def _multiply(room: float) -> tuple[int, float]:
    """Return the fastest product's width and flops a second."""
    widest = int((room / 12) ** 0.5)  # Two factors and a product, 4 bytes an element.
    width = min(_FIRST_WIDTH, widest)
    first_s = _product_s(width)
    # A product's time grows with the third power of its width.
    larger = min(widest, int(width * (_SAMPLE_S / first_s) ** (1 / 3)) // 256 * 256)
    found = {width: 2 * width**3 / first_s}
    if larger > width:
        found[larger] = 2 * larger**3 / _product_s(larger)
    best = max(found, key=lambda width: found[width])
    return best, found[best]


def _product_s(width: int) -> float:
    matrix = jax.random.normal(jax.random.key(0), (width, width), jnp.float32) / width**0.5
    multiply = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
    return _best(lambda: multiply(matrix, matrix))


def _copy(room: float) -> tuple[int, float]:
    """Return a copy's bytes, and the bytes a second that are read and written."""
    size = int(min(_FIRST_BYTES, room))
    seconds = _copy_s(size)
    larger = int(min(room, size * _SAMPLE_S / seconds))
    if larger > size:  # The first one may have fitted into caches.
        size, seconds = larger, _copy_s(larger)
    return size, 2 * size / seconds


def _copy_s(size: int) -> float:
    array = jnp.zeros(size // 4, jnp.float32)
    add = jax.jit(lambda x: x + 1, donate_argnums=0).lower(array).compile()

    def copy() -> jax.Array:
        nonlocal array
        array = add(array)
        return array

    return _best(copy)


def _best(call: Callable[[], jax.Array]) -> float:
    """Return the shortest of a few calls in seconds, the first one left out."""
    call().block_until_ready()
    seconds = []
    for _ in range(_SAMPLES):
        start = time.perf_counter()
        call().block_until_ready()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _free(device: jax.Device) -> int:
    """Return the bytes that the device has left; a cautious guess where it does not say."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return max(0, int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0)))
    return (device.platform == "cpu" and memory.free()) or _SCARCE
