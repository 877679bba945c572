"""What may be missing on this machine: the packages of `tdjax[compare]`, and accelerators."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_DEVICE_FILES = ("accel*", "vfio/[0-9]*", "nvidia[0-9]*", "dxg", "kfd")


COMPARE = "tdjax[compare]"


def need(package: str, purpose: str, install: str = COMPARE) -> None:
    """Raise ImportError, with how to install it, unless the package is there."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f"{package} is needed for {purpose} and is not installed. "
            f'Install it: pip install "{install}"'
        )


def leave_out_absent() -> None:
    """Let JAX look for CPUs only, where the machine shows no accelerator.

    A TPU's or GPU's compiler may be installed only to compile with. JAX would load it to look for
    devices, and it complains on standard error that it found none.
    """
    import jax

    if not sys.platform.startswith("linux") or jax.config.values["jax_platforms"]:
        return
    if not any(any(Path("/dev").glob(pattern)) for pattern in _DEVICE_FILES):
        jax.config.update("jax_platforms", "cpu")
