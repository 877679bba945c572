"""The devices that a comparison can be run for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax

ATTACHABLE = ("cpu", "gpu", "tpu")


@dataclass(frozen=True)
class Target:
    """A device to compare on.

    Attributes:
        name: "cpu", "gpu" or "tpu".
        evidence: what it gives: "measured".
        kind: what the device calls itself.
        count: how many of them there are.
        device: the one that is used.
    """

    name: str
    evidence: str
    kind: str
    count: int
    device: jax.Device


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

    Raises:
        ValueError: a name is unknown, or its device is not attached.
    """
    here = attached()
    if names is None:
        return here[:1]
    by_name = {target.name: target for target in here}
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    for name in names:
        if name in by_name:
            continue
        what = "is not attached" if name in ATTACHABLE else "is unknown"
        raise ValueError(
            f"target {name!r} {what}; known are {', '.join(ATTACHABLE)}, "
            f"attached are {', '.join(by_name)}."
        )
    return tuple(by_name[name] for name in names)
