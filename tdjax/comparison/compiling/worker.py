"""The process that compiles for one device, whose compiler may print, hang or die.

`("device", options)` names the topology, `("compile", request)` compiles an exported program for
it: in a copy of the process, so that a compiler that need not finish costs no new start.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, SingleDeviceSharding

from tdjax.comparison.system.child_loop import serve
from tdjax.comparison.system.forked import in_a_copy


class _Worker:
    def __init__(self) -> None:
        self._topology: Any = None

    def answer(self, kind: str, payload: Any) -> Any:
        """Return what is answered to a request.

        `("ready", devices)` to a device; to a program `("done", seconds, text, temporary memory)`,
        `("optimised", text)` if its code was late, `("late",)` if that was, too.
        """
        if kind == "device":
            self._topology = payload
            return "ready", in_a_copy(lambda: len(_devices(payload)))
        program, axes, options, deadline, patience = payload
        folder = None if options is None else Path(options["xla_dump_to"])
        end = time.monotonic() + deadline
        optimised_at = math.inf

        def enough() -> bool:
            nonlocal optimised_at
            now = time.monotonic()
            if optimised_at == math.inf and folder is not None and _optimised(folder) is not None:
                optimised_at = now
            return now >= min(end, optimised_at + patience)

        made = in_a_copy(lambda: _compile(program, axes, options, self._topology), enough)
        if made is not None:
            return "done", *made
        text = None if folder is None else _optimised(folder)
        return ("late",) if text is None else ("optimised", text)


def _optimised(folder: Path) -> str | None:
    """Return the optimised program that a compiler at work has written; None if it has not yet."""
    # Written after the program itself, which is whole by then.
    if not any(folder.glob("*.after_optimizations-buffer-assignment.txt")):
        return None
    texts = list(folder.glob("*.after_optimizations.txt"))
    return texts[0].read_text() if len(texts) == 1 else None


def _devices(options: Any) -> Any:
    return topologies.get_topology_desc(**options).devices


def _wake(device: Any) -> None:
    """Compile something, so that no program's time has a compiler's own start in it."""
    shape = jax.ShapeDtypeStruct((), np.int32, sharding=SingleDeviceSharding(device))
    jax.jit(lambda x: x + 1).lower(shape).compile()


def _compile(
    program: bytes, axes: Any, options: Any, topology: Any
) -> tuple[float, str, int | None]:
    """Return seconds, optimised text and temporary memory of a program."""
    devices = _devices(topology)
    _wake(devices[0])
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
