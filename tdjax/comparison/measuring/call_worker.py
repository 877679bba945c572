"""The process that calls serialized programs: one that can be ended, and seen to take memory.

It is prepared for one kind of question by "put_on_device" or "keep", and then asked it.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np
from jax.experimental.serialize_executable import deserialize_and_load

from tdjax.comparison.system.serving import in_a_copy, serve

_RESET_PEAK = "5"


class _CallWorker:
    def __init__(self) -> None:
        self._arguments: Any = None

    def put_on_device(self, arguments: Any) -> None:
        """Prepare for first calls."""
        self._arguments = jax.block_until_ready(jax.device_put(arguments))

    def keep(self, arguments: Any) -> None:
        """Prepare for copies of this process, in which no device may be initialized."""
        self._arguments = arguments

    def first_call(self, asked: tuple[Any, float | None]) -> tuple[float, list[np.ndarray] | None]:
        """Return the seconds of a call and, where it took longer than asked, its outputs."""
        executable, enough_s = asked
        run = deserialize_and_load(*executable)
        start = time.perf_counter()
        outputs = jax.block_until_ready(run(*self._arguments))
        seconds = time.perf_counter() - start
        slow = enough_s is None or seconds > enough_s
        return seconds, [np.asarray(leaf) for leaf in outputs] if slow else None

    def peak_memory(self, asked: tuple[Any]) -> int | None:
        """Return the peak of a call in a copy of this process."""
        (executable,) = asked
        peak: int | None = in_a_copy(lambda: _peak(executable, self._arguments))
        return peak


def _peak(executable: Any, arguments: Any) -> int | None:
    inputs = jax.block_until_ready(jax.device_put(arguments))
    run = deserialize_and_load(*executable)
    (device,) = {device for leaf in jax.tree.leaves(inputs) for device in leaf.devices()}
    if device.platform != "cpu":
        jax.block_until_ready(run(*inputs))
        stats = device.memory_stats()
        return None if stats is None else stats.get("peak_bytes_in_use")
    before = _resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write(_RESET_PEAK)
    jax.block_until_ready(run(*inputs))
    added = max(0, _resident("VmHWM") - before)
    return added + sum(leaf.nbytes for leaf in jax.tree.leaves(inputs))


def _resident(name: str) -> int:
    """Return a figure of this process' memory in bytes; Linux gives it in kB."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    serve(_CallWorker())
