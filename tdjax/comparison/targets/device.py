"""What a device is that programs are compiled for without it, and whose compiler does that."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tdjax.comparison.targets.ceilings import Ceilings


@dataclass(frozen=True)
class Compiler:
    """A device maker's compiler.

    Attributes:
        platform: what JAX calls its devices.
        packages: the modules that it needs, each one of several.
        extra: the extra of tdjax that installs them.
        title: its name.
        distributions: the packages whose versions decide what it says.
        optimizes_first: whether the optimized program is final, and can be had, before it
            generates code from it, which takes most of its time.
    """

    platform: str
    packages: tuple[tuple[str, ...], ...]
    extra: str
    title: str
    distributions: tuple[str, ...]
    optimizes_first: bool = False

    @property
    def installed(self) -> bool:
        """Whether its packages are there; none of them is imported."""
        return all(any(map(importlib.util.find_spec, names)) for names in self.packages)

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install 'tdjax[{self.extra}]'"


@dataclass(frozen=True)
class AbsentDevice:
    """A device, or several of one kind, that programs can be compiled for.

    Attributes:
        name: "tpu:v5e", or "tpu:v5e:2x4" with a topology of one's own.
        kind: what it is.
        compiler: what compiles for it.
        topology: the arguments of `jax.experimental.topologies.get_topology_desc`.
        environment: the variables that its compiler needs.
        ceilings: what one device reaches at best by its maker's figures, None where unknown.
        device_kind: what JAX calls it where it is attached, which results of tuning are kept under;
            empty where that is not known.
    """

    name: str
    kind: str
    compiler: Compiler
    topology: Mapping[str, Any] = field(hash=False)
    environment: Mapping[str, str] = field(hash=False)
    ceilings: Ceilings | None = None
    device_kind: str = ""


@dataclass(frozen=True)
class DeviceModel:
    """A model of devices, to be registered in the catalog.

    Attributes:
        name: "tpu:v5e", "gpu:h100": a family and a model.
        compiler: what compiles for it.
        describe: `describe(name, topology)` gives the device of a target's name, such as
            "tpu:v5e:2x4"; `topology` is "2x4" there, empty where the name has none. It raises
            ValueError for a topology that the model cannot have.
    """

    name: str
    compiler: Compiler
    describe: Callable[[str, str], AbsentDevice]
