"""The devices that a comparison can be run for: those that are attached, and those that are not."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import jax

from tdjax.comparison.targets import catalog, ceilings
from tdjax.comparison.targets.device import AbsentDevice, Compiler

ATTACHABLE = ("cpu", "gpu", "tpu")


@dataclass(frozen=True)
class Target:
    """A device to compare on.

    Attributes:
        name: "cpu", "gpu" or "tpu"; or of one that is not here, "tpu:v5e", "gpu:h100", ...
        evidence: what it gives: "measured", or "compiled" if it is not here.
        kind: what the device is.
        count: how many of them there are.
        device: the attached one that is used.
        compiles_for: the one that is not here.
    """

    name: str
    evidence: str
    kind: str
    count: int
    device: jax.Device | None = None
    compiles_for: AbsentDevice | None = None

    def ceilings(self) -> ceilings.Ceilings | None:
        """Return what it reaches at best, None where that is not known.

        An attached device is measured, in about a second; for one that is not here its maker's
        figures are taken.
        """
        if self.compiles_for is not None:
            return self.compiles_for.ceilings
        if self.device is None:
            return None
        try:
            return ceilings.measure(self.device)
        except jax.errors.JaxRuntimeError:  # Other programs have left too little of its memory.
            return None


def attached() -> tuple[Target, ...]:
    """Return the devices that are attached, JAX's default first."""
    found = []
    for name in ATTACHABLE:
        try:
            devices = jax.local_devices(backend=name)
        except RuntimeError:
            continue
        device = devices[0]
        found.append(Target(name, "measured", device.device_kind, len(devices), device))
    default = jax.default_backend()
    return tuple(sorted(found, key=lambda target: target.name != default))


def resolve(names: Sequence[str] | str | None) -> tuple[Target, ...]:
    """Return the targets of these names; of None, the device that JAX runs on by default.

    Targets whose compiler is not installed are left out, with a warning that says how to
    install it.

    Raises:
        ValueError: a name is unknown, its device is not attached, or has no such topology.
        ImportError: no target is left; the message says how to install their compilers.
    """
    targets, missing = installed(names)
    for text in missing:
        warnings.warn(f"left out: {text}", stacklevel=3)
    return targets


def installed(names: Sequence[str] | str | None) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """Return what `resolve` returns, and a line on each compiler that is not installed.

    Raises:
        ValueError, ImportError: as `resolve` does.
    """
    here = attached()
    if names is None:
        return here[:1], ()
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    by_name = {target.name: target for target in here}
    targets = [by_name.get(name) or _absent(name, by_name) for name in names]
    left = tuple(target for target in targets if _is_installed(target))
    missing = _missing([target for target in targets if not _is_installed(target)])
    if missing and not left:
        raise ImportError("; ".join(missing))
    return left, missing


def _is_installed(target: Target) -> bool:
    return target.compiles_for is None or target.compiles_for.compiler.installed


def _missing(targets: Sequence[Target]) -> tuple[str, ...]:
    """Return a line for each compiler that these targets lack, with how to install it."""
    by_compiler: dict[Compiler, list[str]] = {}
    for target in targets:
        assert target.compiles_for is not None
        by_compiler.setdefault(target.compiles_for.compiler, []).append(target.name)
    return tuple(
        f"{', '.join(names)}: the compiler, {compiler.title}, is not installed. "
        f"Install it: {compiler.install}"
        for compiler, names in by_compiler.items()
    )


def _absent(name: str, here: Sequence[str] | dict[str, Target]) -> Target:
    """Return the target of a name that no attached device has."""
    device = catalog.find(name)
    if device is None:
        absent = f"is not attached, or the JAX that is installed has no support of a {name}"
        what = absent if name in ATTACHABLE else "is unknown"
        raise ValueError(
            f"target {name!r} {what}; known are {', '.join((*ATTACHABLE, *catalog.names()))}, "
            f"attached are {', '.join(here)}."
        )
    return Target(name, "compiled", device.kind, 1, compiles_for=device)
