"""The process that compiles for one device, whose compiler may print, hang or die.

Every program is compiled in a copy of the process: ending a compiler then costs no new start.
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

from tdjax.comparison.system.serving import in_a_copy, serve

_Answer = tuple[float | None, str, int | None]
"""Seconds, optimized text and temporary memory of a program."""


class _CompileWorker:
    def __init__(self) -> None:
        self._topology: Any = None

    def choose_device(self, topology: Any) -> None:
        """Compile for a topology from now on; fail if its compiler does not know it."""
        self._topology = topology
        in_a_copy(lambda: len(_devices(topology)))

    def compile(self, request: Any) -> _Answer | None:
        """Compile an exported program.

        Only the text is known if its code was late, and None is the answer if that was late, too.
        """
        program, axes, options, deadline, patience = request
        folder = None if options is None else Path(options["xla_dump_to"])
        end = time.monotonic() + deadline
        optimized_at = math.inf

        def enough() -> bool:
            nonlocal optimized_at
            now = time.monotonic()
            if optimized_at == math.inf and _read_optimized(folder) is not None:
                optimized_at = now
            return now >= min(end, optimized_at + patience)

        answer: _Answer | None = in_a_copy(
            lambda: _compile(program, axes, options, self._topology), enough
        )
        if answer is None and (text := _read_optimized(folder)) is not None:
            return None, text, None
        return answer


def _read_optimized(folder: Path | None) -> str | None:
    """Return the optimized program that a compiler at work has written, None if it has not yet."""
    # This file is written after the program itself, which is then complete.
    if folder is None or not any(folder.glob("*.after_optimizations-buffer-assignment.txt")):
        return None
    texts = list(folder.glob("*.after_optimizations.txt"))
    return texts[0].read_text() if len(texts) == 1 else None


def _devices(options: Any) -> Any:
    return topologies.get_topology_desc(**options).devices


def _wake(device: Any) -> None:
    """Compile something, so that no program's time includes the start of the compiler."""
    shape = jax.ShapeDtypeStruct((), np.int32, sharding=SingleDeviceSharding(device))
    jax.jit(lambda x: x + 1).lower(shape).compile()


def _compile(program: bytes, axes: Any, options: Any, topology: Any) -> _Answer:
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
    serve(_CompileWorker())
