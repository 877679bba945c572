"""The name of the processor."""

from __future__ import annotations

import functools
import platform
from pathlib import Path


@functools.cache
def processor() -> str | None:
    """Return the processor's model, None where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # Not Linux.
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine() or None)
