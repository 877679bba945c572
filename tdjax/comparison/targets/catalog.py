"""The devices that programs can be compiled for, whether or not they are here.

Peak figures are those that their makers published: dense bfloat16 products, and the bandwidth of
the device's main memory.
"""

from __future__ import annotations

from tdjax.comparison.targets.ceilings import published
from tdjax.comparison.targets.cuda import gpu
from tdjax.comparison.targets.device import AbsentDevice, Compiler, DeviceModel
from tdjax.comparison.targets.tpu import tpu

_REGISTERED: dict[str, DeviceModel] = {}


def register(model: DeviceModel) -> None:
    """Make a model of devices known by its name, as a target to compile for.

    Raises:
        ValueError: there is another one of that name.
    """
    if model.name in _REGISTERED:
        raise ValueError(f"target: {model.name!r} is registered already; choose another name.")
    _REGISTERED[model.name] = model


def unregister(name: str) -> None:
    """Forget a model."""
    del _REGISTERED[name]


def names() -> dict[str, Compiler]:
    """Return the names of all devices, each with its compiler."""
    return {name: model.compiler for name, model in _REGISTERED.items()}


def find(name: str) -> AbsentDevice | None:
    """Return the device of a name such as "tpu:v5e", "tpu:v5e:2x4" or "gpu:h100:8".

    None where there is no such device.

    Raises:
        ValueError: the device exists, and has no such topology.
    """
    family, _, rest = name.partition(":")
    model, _, topology = rest.partition(":")
    known = _REGISTERED.get(f"{family}:{model}")
    return None if known is None else known.describe(name, topology)


_CLOUD = "bfloat16 peak and memory bandwidth a chip: docs.cloud.google.com/tpu/docs/{}"
_JOUPPI = (
    "bfloat16 peak and memory bandwidth a chip: Jouppi et al., A Domain-Specific Supercomputer "
    "for Training Deep Neural Networks, CACM 63(7), 2020"
)
_NVIDIA = "dense bfloat16 peak and memory bandwidth: NVIDIA, {} data sheet"

# Of a chip: teraflops a second, gigabytes a second, the source, and how many devices it is to JAX.
_V2 = published(46, 700, _JOUPPI, devices=2)
_V3 = published(123, 900, _CLOUD.format("v3"), devices=2)
_V4 = published(275, 1200, _CLOUD.format("v4"))
_V5E = published(197, 819, _CLOUD.format("v5e"))
_V5P = published(459, 2765, _CLOUD.format("v5p"))
_V6E = published(918, 1638, _CLOUD.format("tpu7x"))
_V7X = published(2307, 7380, _CLOUD.format("tpu7x"), devices=2)

register(tpu("v2", "2x2", "v2-8", _V2, kind="TPU v2"))
register(tpu("v3", "2x2", "v3-8", _V3, kind="TPU v3"))
# Both cores of a v4 chip work as one device, as JAX shows them on the machine itself.
register(tpu("v4", "2x2x1", "v4-8", _V4, chip="megacore", kind="TPU v4"))
register(tpu("v5e", "2x2", "v5litepod-4", _V5E, kind="TPU v5 lite"))
register(tpu("v5p", "2x2x1", "v5p-8", _V5P, kind="TPU v5"))
register(tpu("v6e", "2x2", "v6e-4", _V6E, kind="TPU v6 lite"))
register(tpu("v7x", "2x2x1", "tpu7x-8", _V7X, prefix="tpu7x", kind="TPU7x"))
register(
    gpu("a100", published(312, 2039, _NVIDIA.format("A100 80GB SXM")), kind="NVIDIA A100-SXM4-80GB")
)
register(
    gpu("h100", published(989, 3350, _NVIDIA.format("H100 SXM")), kind="NVIDIA H100 80GB HBM3")
)
register(gpu("h200", published(989, 4800, _NVIDIA.format("H200 SXM")), kind="NVIDIA H200"))
register(gpu("b200", published(2250, 8000, _NVIDIA.format("HGX B200")), kind="NVIDIA B200"))
