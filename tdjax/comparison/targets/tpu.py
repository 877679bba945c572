"""TPUs, by libtpu."""

from __future__ import annotations

import re
from typing import Any

from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.targets.device import AbsentDevice, Compiler, DeviceModel

# Programs travel to the compiler's process by jax.export, which needs flatbuffers.
LIBTPU = Compiler(
    "tpu", (("libtpu",), ("flatbuffers",)), "tpu", "libtpu", ("libtpu",), optimizes_first=True
)
_SIZES = re.compile(r"[1-9]\d*(x[1-9]\d*){1,2}")
_HOST = 2


def tpu(
    model: str,
    host: str,
    accelerator: str,
    ceilings: Ceilings,
    prefix: str | None = None,
    chip: str | None = None,
    kind: str = "",
) -> DeviceModel:
    """Return a generation of TPUs.

    Args:
        model: its name.
        host: the chips of its smallest host, "2x2".
        accelerator: what that is sold as.
        ceilings: what one device reaches at best.
        prefix: its name in libtpu, where that is another one.
        chip: how the cores of a chip work together, where there is a choice.
        kind: what JAX calls its devices.
    """

    def describe(name: str, topology: str) -> AbsentDevice:
        topology = topology or host
        options: dict[str, Any] = {
            "platform": "tpu",
            "topology_name": f"{prefix or model}:{topology}",
            "chips_per_host_bounds": _host_bounds(name, f"tpu:{model}:{host}", topology),
        }
        if chip is not None:
            options["chip_config_name"] = chip
        environment = {
            "TPU_ACCELERATOR_TYPE": accelerator,
            "TPU_WORKER_HOSTNAMES": "localhost",
            # Without these it asks a metadata server, refuses to run beside another of its kind,
            # and writes logs.
            "TPU_SKIP_MDS_QUERY": "1",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
            "TPU_LOG_DIR": "disabled",
        }
        return AbsentDevice(name, f"TPU {model}", LIBTPU, options, environment, ceilings, kind)

    return DeviceModel(f"tpu:{model}", LIBTPU, describe)


def _host_bounds(name: str, usual: str, topology: str) -> tuple[int, ...]:
    """Return how many chips by how many a host has: 2 x 2, less for a single row or chip."""
    _, model, host = usual.split(":")
    if not _SIZES.fullmatch(topology) or topology.count("x") != host.count("x"):
        raise ValueError(
            f"target {name!r}: the topology {topology!r} does not fit; a {model} has chips by "
            f"{host.count('x') + 1} sizes, as {usual}."
        )
    sizes = [int(size) for size in topology.split("x")]
    bounds = [min(size, _HOST) for size in sizes[:2]]
    if any(size % bound for size, bound in zip(sizes, bounds, strict=False)):
        raise ValueError(
            f"target {name!r}: the topology {topology!r} is not made of whole hosts of 2x2 chips; "
            f"use even sizes, as {usual}."
        )
    return (*bounds, 1)
