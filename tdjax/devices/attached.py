"""The device that programs are for: which one it is, and the sizes of its caches.

That is what was assumed, for programs that are compiled for a device that is not here; else the
devices of the mesh that a program is traced for; else JAX's default device.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple

import jax

from tdjax.devices.processor import USUAL_FAR, cache_sizes, cores, near_and_far, processor

# No accelerator's last cache is larger: 128 MiB in a TPU v4, 126 MB in a B200.
_ACCELERATOR_CACHE = 128 * 2**20


class Assumed(NamedTuple):
    """A device to choose for; its kind is None where only the platform matters."""

    platform: str
    kind: str | None


_assumed: contextvars.ContextVar[Assumed | None] = contextvars.ContextVar("device", default=None)


@contextlib.contextmanager
def assume(platform: str, kind: str | None = None) -> Iterator[None]:
    """Choose for another device than the attached one, for programs that are compiled for it.

    Args:
        platform: "cpu", "gpu" or "tpu", or the maker's name of a GPU's: "cuda".
        kind: which one, as JAX calls it: "TPU v5 lite", "NVIDIA H200".
    """
    token = _assumed.set(Assumed(_backend(platform), kind))
    try:
        yield
    finally:
        _assumed.reset(token)


def assumed() -> Assumed | None:
    """Return the device that is assumed, if one is."""
    return _assumed.get()


def platform() -> str:
    """Return the platform of the device that programs are for."""
    if (device := _assumed.get()) is not None:
        return device.platform
    if (device := _of_mesh()) is not None:
        return device.platform
    return jax.default_backend()


def device_kind() -> str:
    """Return the kind of the device that programs are for; of a CPU which processor it is."""
    if (device := _assumed.get()) is not None and device.kind is not None:
        return device.kind
    device = _of_mesh()
    platform = jax.default_backend() if device is None else device.platform
    if platform == "cpu":
        return processor().kind
    return str(jax.devices()[0].device_kind if device is None else device.kind)


def _of_mesh() -> Assumed | None:
    """Return the devices of the mesh that is in use; None where no mesh is, or none is known."""
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    platform = getattr(device, "platform", None)
    if device is None or platform is None:
        return None
    return Assumed(_backend(platform), device.device_kind)


def _backend(platform: str) -> str:
    return "gpu" if platform in ("cuda", "rocm") else platform


def cpu_caches() -> tuple[float, float]:
    """Return the bytes of all cores' own caches together, and of the cache that they share."""
    return near_and_far(cache_sizes(), cores())


def cache_bytes(target: str) -> int:
    """Return the bytes of a device's last cache, or of the largest one known of its kind."""
    if target != "cpu":
        return _ACCELERATOR_CACHE
    return max(cache_sizes().values(), default=USUAL_FAR)
