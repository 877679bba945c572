"""The device that is attached: its kind, and the sizes of its caches."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Callable
from pathlib import Path

import jax

_CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
_USUAL_NEAR, _USUAL_FAR = 2**20, 32 * 2**20
# No accelerator's last cache is larger: 128 MiB in a TPU v4, 126 MB in a B200.
_ACCELERATOR_CACHE = 128 * 2**20


@functools.cache
def processor() -> str | None:
    """Return the processor's model, None where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # Not Linux.
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine() or None)


def device_kind() -> str:
    """Return the kind of JAX's default device; of a CPU its model, and how many cores there are."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return str(device.device_kind)
    return _processor_kind(os.cpu_count)


@functools.cache
def _processor_kind(count: Callable[[], int | None]) -> str:
    return f"cpu, {processor()}, {count()} cores"


def cpu_caches() -> tuple[float, float]:
    """Return the bytes of all cores' own caches together, and of the cache that they share."""
    sizes = _cpu_cache_sizes()
    near = (sizes.get(2) or _USUAL_NEAR) * (os.cpu_count() or 1)
    return near, max(sizes.get(3) or _USUAL_FAR, near)


def cache_bytes(target: str) -> int:
    """Return the bytes of a device's last cache, or of the largest one known of its kind."""
    if target != "cpu":
        return _ACCELERATOR_CACHE
    return max(_cpu_cache_sizes().values(), default=_USUAL_FAR)


def _cpu_cache_sizes() -> dict[int, int]:
    """Return the bytes of a core's caches by level, empty where the system does not say."""
    sizes: dict[int, int] = {}
    try:
        for folder in _CPU_CACHES.glob("index*"):
            size, level = (folder / "size").read_text().strip(), (folder / "level").read_text()
            sizes[int(level)] = int(size[:-1]) * _UNITS[size[-1]]
    except (OSError, ValueError, KeyError, IndexError):  # Not Linux, or a text of another form.
        return {}
    return sizes
