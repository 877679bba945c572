"""NVIDIA GPUs, by XLA for CUDA."""

from __future__ import annotations

import re
from importlib import resources

from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.targets.device import AbsentDevice, Compiler, DeviceModel

CUDA = Compiler(
    "cuda",
    (("jax_cuda13_plugin", "jax_cuda12_plugin"), ("flatbuffers",)),
    "cuda13",
    "XLA for CUDA",
    ("jax-cuda13-plugin", "jax-cuda12-plugin"),
)
_COUNT = re.compile(r"[1-9]\d*")


def gpu(model: str, ceilings: Ceilings, kind: str = "") -> DeviceModel:
    """Return a model of GPUs, whose configuration for XLA is in `gpu/MODEL.txtpb`.

    Args:
        model: its name.
        ceilings: what one device reaches at best.
        kind: what JAX calls it.
    """

    def describe(name: str, topology: str) -> AbsentDevice:
        count = topology or "1"
        if not _COUNT.fullmatch(count):
            raise ValueError(
                f"target {name!r}: {count!r} is not a number of GPUs; write gpu:{model}:8."
            )
        config = resources.files(__package__).joinpath("gpu", f"{model}.txtpb").read_text()
        options = {
            "platform": "cuda",
            "topology_name": model,
            "topology": f"1x1x{count}",
            "target_config": config,
        }
        # A GPU that is here must not be asked: its kernels would be tuned for another one.
        hidden = {"CUDA_VISIBLE_DEVICES": ""}
        return AbsentDevice(name, model.upper(), CUDA, options, hidden, ceilings, kind)

    return DeviceModel(f"gpu:{model}", CUDA, describe)
