"""The devices that programs can be compiled for, whether or not they are here."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Compiler:
    """A device maker's compiler.

    Attributes:
        platform: what JAX calls its devices.
        packages: the modules that it needs, each one of several.
        extra: the extra of tdjax that installs them.
        title: its name.
        distributions: the packages whose versions decide what it says.
        optimises_first: whether the optimised program is final, and can be had, before it
            generates code from it, which takes most of its time.
    """

    platform: str
    packages: tuple[tuple[str, ...], ...]
    extra: str
    title: str
    distributions: tuple[str, ...]
    optimises_first: bool = False

    @property
    def installed(self) -> bool:
        """Whether its packages are there; none of them is imported."""
        return all(any(map(importlib.util.find_spec, names)) for names in self.packages)

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install 'tdjax[{self.extra}]'"


# Programs travel to the compiler's process by jax.export, which needs flatbuffers.
TPU = Compiler(
    "tpu", (("libtpu",), ("flatbuffers",)), "tpu", "libtpu", ("libtpu",), optimises_first=True
)
CUDA = Compiler(
    "cuda",
    (("jax_cuda13_plugin", "jax_cuda12_plugin"), ("flatbuffers",)),
    "cuda13",
    "XLA for CUDA",
    ("jax-cuda13-plugin", "jax-cuda12-plugin"),
)


@dataclass(frozen=True)
class Device:
    """A device, or several of one kind, that programs can be compiled for.

    Attributes:
        name: "tpu:v5e", or "tpu:v5e:2x4" with a topology of one's own.
        kind: what it is.
        compiler: what compiles for it.
        topology: the arguments of `jax.experimental.topologies.get_topology_desc`.
        environment: the variables that its compiler needs.
    """

    name: str
    kind: str
    compiler: Compiler
    topology: Mapping[str, Any] = field(hash=False)
    environment: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True)
class _Generation:
    """A generation of TPUs: its name in libtpu, its smallest host, and what that is sold as."""

    prefix: str
    host: str
    accelerator: str
    chip: str | None = None


_TPUS = {
    "v2": _Generation("v2", "2x2", "v2-8"),
    "v3": _Generation("v3", "2x2", "v3-8"),
    # Both cores of a v4 chip work as one device, as JAX shows them on the machine itself.
    "v4": _Generation("v4", "2x2x1", "v4-8", chip="megacore"),
    "v5e": _Generation("v5e", "2x2", "v5litepod-4"),
    "v5p": _Generation("v5p", "2x2x1", "v5p-8"),
    "v6e": _Generation("v6e", "2x2", "v6e-4"),
    "v7x": _Generation("tpu7x", "2x2x1", "tpu7x-8"),
}
_GPUS = ("a100", "h100", "h200", "b200")
_COUNT = re.compile(r"[1-9]\d*")
_SIZES = re.compile(r"[1-9]\d*(x[1-9]\d*){1,2}")
_HOST = 2


def names() -> dict[str, Compiler]:
    """Return the names of all devices, each with its compiler."""
    return {
        **{f"tpu:{name}": TPU for name in _TPUS},
        **{f"gpu:{name}": CUDA for name in _GPUS},
    }


def find(name: str) -> Device | None:
    """Return the device of a name such as "tpu:v5e", "tpu:v5e:2x4" or "gpu:h100:8".

    None where there is no such device.

    Raises:
        ValueError: the device exists, and has no such topology.
    """
    family, _, rest = name.partition(":")
    model, _, topology = rest.partition(":")
    if family == "tpu" and model in _TPUS:
        return _tpu(name, model, topology or _TPUS[model].host)
    if family == "gpu" and model in _GPUS:
        return _gpu(name, model, topology or "1")
    return None


def _tpu(name: str, model: str, topology: str) -> Device:
    known = _TPUS[model]
    if not _SIZES.fullmatch(topology) or topology.count("x") != known.host.count("x"):
        raise ValueError(
            f"target {name!r}: the topology {topology!r} does not fit; a {model} has chips by "
            f"{known.host.count('x') + 1} sizes, as tpu:{model}:{known.host}."
        )
    sizes = [int(size) for size in topology.split("x")]
    # Hosts have 2 x 2 chips; a single row or chip is a smaller host.
    bounds = [min(size, _HOST) for size in sizes[:2]]
    if any(size % bound for size, bound in zip(sizes, bounds, strict=False)):
        raise ValueError(
            f"target {name!r}: the topology {topology!r} is not made of whole hosts of 2x2 chips; "
            f"use even sizes, as tpu:{model}:{known.host}."
        )
    options: dict[str, Any] = {
        "platform": "tpu",
        "topology_name": f"{known.prefix}:{topology}",
        "chips_per_host_bounds": (*bounds, 1),
    }
    if known.chip is not None:
        options["chip_config_name"] = known.chip
    environment = {
        "TPU_ACCELERATOR_TYPE": known.accelerator,
        "TPU_WORKER_HOSTNAMES": "localhost",
        # Without these it asks a metadata server, refuses to run beside another of its kind,
        # and writes logs.
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_LOG_DIR": "disabled",
    }
    return Device(name, f"TPU {model}", TPU, options, environment)


def _gpu(name: str, model: str, count: str) -> Device:
    if not _COUNT.fullmatch(count):
        raise ValueError(f"target {name!r}: {count!r} is no number of GPUs; write gpu:{model}:8.")
    config = resources.files(__package__).joinpath("gpu", f"{model}.txtpb").read_text()
    options = {
        "platform": "cuda",
        "topology_name": model,
        "topology": f"1x1x{count}",
        "target_config": config,
    }
    # A GPU that is here must not be asked: its kernels would be tuned for another one.
    return Device(name, model.upper(), CUDA, options, {"CUDA_VISIBLE_DEVICES": ""})
