"""Kinds of devices: the name of the attached one, and what the package knows of each.

A file in `devices/` holds the speeds that costs are predicted from and results of tuning, with the
kind of device, the date and the versions that they are from. `tdjax tune --out` writes one. For a
device that nobody has measured it may hold what its compiler says of the suite instead, in a
sentence.
"""

from __future__ import annotations

import functools
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax

FORMAT = "tdjax-device"
VERSION = 2

_FOLDER = Path(__file__).parent


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


@functools.cache
def shipped_devices() -> tuple[dict[str, Any], ...]:
    """Return what the files hold, in the order of their names."""
    found = (json.loads(path.read_text()) for path in sorted(_FOLDER.glob("*.json")))
    return tuple(each for each in found if (each["format"], each["version"]) == (FORMAT, VERSION))


@functools.cache
def shipped_results(kind: str) -> tuple[dict[str, Any], ...]:
    """Return what tuning has measured on a kind of device."""
    return tuple(
        result
        for device in shipped_devices()
        if device["kind"] == kind
        for result in device["results"]
    )
