"""The process that compiles for one device, whose compiler may print, hang or die.

`("device", options)` makes the topology, `("compile", (program, mesh, options))` compiles an
exported program for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tdjax._answering import serve


class _Worker:
    def __init__(self) -> None:
        self._devices: Any = None

    def answer(self, kind: str, payload: Any) -> Any:
        """Return `("ready", devices)`, or `("done", seconds, text, temporary memory)`."""
        if kind == "compile":
            program, axes, options = payload
            return "done", *_compile(program, axes, options, self._devices)
        self._devices = _devices(payload)
        return "ready", len(self._devices)


def _devices(options: Any) -> Any:
    from jax.experimental import topologies

    return topologies.get_topology_desc(**options).devices


def _compile(
    program: bytes, axes: Any, options: Any, devices: Any
) -> tuple[float, str, int | None]:
    """Return seconds, optimised text and temporary memory of a program."""
    import jax
    import numpy as np
    from jax import export
    from jax.sharding import AxisType, Mesh, SingleDeviceSharding

    exported = export.deserialize(bytearray(program))
    if exported.nr_devices > len(devices):
        raise ValueError(
            f"the arrays lie on {exported.nr_devices} devices and the topology has {len(devices)}"
        )
    shardings: Sequence[Any]
    if axes is None:
        shardings = [SingleDeviceSharding(devices[0])] * len(exported.in_avals)
    else:
        names, sizes, types = zip(*axes, strict=True)
        chosen = np.array(devices[: exported.nr_devices]).reshape(sizes)
        mesh = Mesh(chosen, names, axis_types=tuple(AxisType[name] for name in types))
        shardings = exported.in_shardings_jax(mesh)
    shapes = [
        jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=sharding, weak_type=aval.weak_type)
        for aval, sharding in zip(exported.in_avals, shardings, strict=True)
    ]
    arguments, keywords = jax.tree.unflatten(exported.in_tree, shapes)
    traced = jax.jit(exported.call).trace(*arguments, **keywords)
    lowered = traced.lower(lowering_platforms=exported.platforms)
    start = time.perf_counter()
    compiled = lowered.compile(compiler_options=options)
    seconds = time.perf_counter() - start
    stats = compiled.memory_analysis()
    temporary = None if stats is None else int(stats.temp_size_in_bytes)
    return seconds, compiled.as_text(), temporary


if __name__ == "__main__":
    serve(_Worker().answer)
