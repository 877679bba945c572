"""The sizes of a device's caches; those of a CPU as Linux tells them."""

from __future__ import annotations

import os
from pathlib import Path

_CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
_USUAL_NEAR, _USUAL_FAR = 2**20, 32 * 2**20
# No accelerator's last cache is larger: 128 MiB in a TPU v4, 126 MB in a B200.
_ACCELERATOR_CACHE = 128 * 2**20


def cpu_caches() -> tuple[float, float]:
    """Return the bytes of all cores' own caches together, and of the cache that they share."""
    sizes = _read_sizes()
    near = (sizes.get(2) or _USUAL_NEAR) * (os.cpu_count() or 1)
    return near, max(sizes.get(3) or _USUAL_FAR, near)


def cache_bytes(platform: str) -> int:
    """Return the bytes of a device's last cache, or of the largest one known of its kind."""
    if platform != "cpu":
        return _ACCELERATOR_CACHE
    return max(_read_sizes().values(), default=_USUAL_FAR)


def _read_sizes() -> dict[int, int]:
    """Return the bytes of a core's caches by level, empty where the system does not say."""
    sizes: dict[int, int] = {}
    try:
        for folder in _CPU_CACHES.glob("index*"):
            size, level = (folder / "size").read_text().strip(), (folder / "level").read_text()
            sizes[int(level)] = int(size[:-1]) * _UNITS[size[-1]]
    except (OSError, ValueError, KeyError, IndexError):  # Not Linux, or a text of another form.
        return {}
    return sizes
