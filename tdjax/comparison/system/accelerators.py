"""Which kinds of accelerators this machine could have, without asking their libraries."""

from __future__ import annotations

import sys
from pathlib import Path

_DEVICE_FILES = ("accel*", "vfio/[0-9]*", "nvidia[0-9]*", "dxg", "kfd")


def leave_out_absent() -> None:
    """Let JAX look for CPUs only, where the machine shows no accelerator.

    A TPU's or GPU's compiler may be installed for its compiling alone. JAX would load it to
    look for devices, and it complains on standard error that it found none.
    """
    import jax

    if not sys.platform.startswith("linux") or jax.config.values["jax_platforms"]:
        return
    if not any(any(Path("/dev").glob(pattern)) for pattern in _DEVICE_FILES):
        jax.config.update("jax_platforms", "cpu")
