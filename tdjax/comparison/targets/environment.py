"""Where a comparison was made: versions, device, flags."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from importlib import metadata

import jax

from tdjax._version import __version__
from tdjax.comparison.targets.target import Target
from tdjax.devices.processor import cores, processor

_PACKAGES = ("jax", "jaxlib", "flax", "numpy")


def environment(targets: Sequence[Target]) -> dict[str, str | int | None]:
    """Return what one needs to know to read the numbers, or to reproduce them."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "devices": ", ".join(_device(target) for target in targets),
        "processor": str(processor()),
        "cores": cores(),
        "caches": processor().caches,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "tdjax": __version__,
        **{package: _version(package) for package in _PACKAGES},
        **{name: _version(name) for target in targets for name in _compilers(target)},
        "xla_flags": os.environ.get("XLA_FLAGS") or None,
        "x64": str(jax.config.values["jax_enable_x64"]),
        "matmul_precision": jax.config.values["jax_default_matmul_precision"],
    }


def _device(target: Target) -> str:
    many = f" x {target.count}" if target.count > 1 else ""
    return target.name + many + ("" if target.kind == target.name else f" ({target.kind})")


def _compilers(target: Target) -> tuple[str, ...]:
    """Return the packages whose versions decide what is compiled for an absent target."""
    return () if target.compiles_for is None else target.compiles_for.compiler.distributions


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
