"""The device that is attached: its kind, and the sizes of its caches."""

from __future__ import annotations

import jax

from tdjax.devices.processor import USUAL_FAR, cache_sizes, cores, near_and_far, processor

# No accelerator's last cache is larger: 128 MiB in a TPU v4, 126 MB in a B200.
_ACCELERATOR_CACHE = 128 * 2**20


def device_kind() -> str:
    """Return the kind of JAX's default device; of a CPU which processor it is."""
    device = jax.devices()[0]
    return processor().kind if device.platform == "cpu" else str(device.device_kind)


def cpu_caches() -> tuple[float, float]:
    """Return the bytes of all cores' own caches together, and of the cache that they share."""
    return near_and_far(cache_sizes(), cores())


def cache_bytes(target: str) -> int:
    """Return the bytes of a device's last cache, or of the largest one known of its kind."""
    if target != "cpu":
        return _ACCELERATOR_CACHE
    return max(cache_sizes().values(), default=USUAL_FAR)
