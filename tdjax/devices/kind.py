"""Names of devices: what results and speeds are kept under."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

import jax


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
    return f"cpu, {processor()}, {os.cpu_count()} cores"
