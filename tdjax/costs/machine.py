"""What a device can do: the few figures that costs are predicted from.

A CPU's caches are read from the machine; its speeds are those of the machine that they were fitted
on. A choice depends on ratios alone, so that a faster core of the same make changes none.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path

import jax

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class Machine:
    """A device.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        dot_flops_s, conv_flops_s: floating point operations a second that products of matrices and
            convolutions reach.
        transcendentals_s: values of exp, tanh and the like a second.
        near_bytes, far_bytes: size of the cache beside the cores, and of the one that they share;
            0 for a device whose caches no block of rows is sized for.
        near_bytes_s, far_bytes_s, memory_bytes_s: bytes a second that operations read and write
            where their values lie in the near cache, in the far one, and in neither.
        operation_s: seconds that an operation takes beside what it does.
        turn_s: seconds that a turn of a loop takes beside its operations.
        fresh_above: temporary memory of more bytes than this comes fresh from the system at every
            call, and is given back; inf where that is not so.
        fresh_bytes_s: bytes a second at which the system hands fresh memory out.
    """

    platform: str
    dot_flops_s: float
    conv_flops_s: float
    transcendentals_s: float
    near_bytes: float
    far_bytes: float
    near_bytes_s: float
    far_bytes_s: float
    memory_bytes_s: float
    operation_s: float
    turn_s: float
    fresh_above: float
    fresh_bytes_s: float

    def fresh_s(self, temporary: float) -> float:
        """Return what it costs to get so much temporary memory from the system."""
        return temporary / self.fresh_bytes_s if temporary > self.fresh_above else 0.0

    def bytes_s(self, working_set: float) -> float:
        """Return how fast operations move bytes where their values take so much memory.

        Between two caches' sizes the slower one takes over bit by bit: a part still fits.
        """
        if not self.far_bytes:
            return self.memory_bytes_s
        if working_set <= self.near_bytes:
            return self.near_bytes_s
        near = self.near_bytes / working_set
        slower = self.far_bytes_s
        if working_set > self.far_bytes:
            far = self.far_bytes / working_set
            slower = 1 / (far / self.far_bytes_s + (1 - far) / self.memory_bytes_s)
        return 1 / (near / self.near_bytes_s + (1 - near) / slower)


# Fitted by `tdjax fit` to the suite, forward and gradient, on two cores of an AMD EPYC
# (Zen 5, 1 MiB of L2 a core, 32 MiB of L3), 2026-11-25, jax 0.10.2. The caches' sizes are replaced
# by those of the machine at hand.
_CPU = Machine(
    platform="cpu",
    dot_flops_s=2.0e11,
    conv_flops_s=1.3e11,
    transcendentals_s=2.0e10,
    near_bytes=2 * 2**20,
    far_bytes=32 * 2**20,
    near_bytes_s=8.8e10,
    far_bytes_s=3.9e10,
    memory_bytes_s=8.2e9,
    operation_s=6.6e-6,
    turn_s=3.9e-6,
    fresh_above=32 * 2**20,  # glibc's largest threshold, DEFAULT_MMAP_THRESHOLD_MAX in mallopt(3)
    fresh_bytes_s=3.6e10,
)

# On an accelerator a block that does not fill the device wastes it, and starting an operation takes
# as long as moving megabytes: what is computed at once is fastest.
_ACCELERATOR = Machine(
    platform="gpu",
    dot_flops_s=1.0e14,
    conv_flops_s=1.0e14,
    transcendentals_s=1.0e13,
    near_bytes=0,
    far_bytes=0,
    near_bytes_s=1.0e12,
    far_bytes_s=1.0e12,
    memory_bytes_s=1.0e12,
    operation_s=5.0e-6,
    turn_s=1.0e-5,
    fresh_above=math.inf,
    fresh_bytes_s=math.inf,
)


_assumed: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


def current_machine() -> Machine:
    """Return the device that a call will run on: JAX's default one, or the one assumed."""
    return machine_of(_assumed.get() or jax.default_backend())


@contextlib.contextmanager
def assume(platform: str) -> Iterator[None]:
    """Choose for another platform than the attached one: what is compiled for it runs there."""
    token = _assumed.set(platform)
    try:
        yield
    finally:
        _assumed.reset(token)


def machine_of(platform: str) -> Machine:
    """Return what is known of a platform: "cpu", "gpu", "tpu" or another."""
    if platform != "cpu":
        return dataclasses.replace(_ACCELERATOR, platform=platform)
    return _this_cpu()


@functools.cache
def _this_cpu() -> Machine:
    sizes = {2: 0.0, 3: 0.0}
    try:
        for folder in _CACHES.glob("index*"):
            size, level = (folder / "size").read_text().strip(), (folder / "level").read_text()
            sizes[int(level)] = int(size[:-1]) * _UNITS[size[-1]]
    except (OSError, ValueError, KeyError, IndexError):  # Not Linux, or a text of another form.
        return _CPU
    near = sizes[2] * (os.cpu_count() or 1)
    far = max(sizes[3], near)
    return dataclasses.replace(_CPU, near_bytes=near, far_bytes=far) if near else _CPU
