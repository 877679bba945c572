"""The process whose copies measure the peak memory of one call each.

`("arguments", values)` sets the inputs, `("peak", program)` copies the process, runs a serialised
executable there, and answers with the bytes, or None.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.experimental.serialize_executable import deserialize_and_load

from tdjax.comparison.system.child_loop import serve
from tdjax.comparison.system.forked import in_a_copy

_RESET_PEAK = "5"


class _Original:
    """The process that is copied; it never touches a device itself."""

    def __init__(self) -> None:
        self._arguments: Any = None

    def answer(self, kind: str, payload: Any) -> int | None:
        """Return the peak of a call, None where there is none, and for arguments."""
        if kind == "peak":
            return in_a_copy(lambda: _peak(payload, self._arguments))
        self._arguments = payload
        return None


def _peak(serialised: Any, arguments: Any) -> int | None:
    inputs = jax.block_until_ready(jax.device_put(arguments))
    run = deserialize_and_load(*serialised)
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
    """Return a figure of this process' memory, in bytes, as Linux tells it in kB."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    serve(_Original().answer)
