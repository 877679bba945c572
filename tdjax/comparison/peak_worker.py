"""The process whose copies measure the peak memory of one call each.

Reads pickled requests from standard input, answers on standard output: `("arguments", values)`
sets the inputs, `("peak", program)` copies the process, runs a serialised executable there, and
answers with the bytes, or None. The process itself never touches a device.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any

_RESET_PEAK = "5"


def main() -> None:
    """Answer requests until standard input ends."""
    import jax
    import jax.experimental.serialize_executable  # noqa: F401 (the copies inherit both)

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    arguments: Any = None
    while True:
        try:
            kind, payload = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer = None
        if kind == "arguments":
            arguments = payload
        else:
            answer = _in_a_copy(payload, arguments)
        pickle.dump(answer, answers)
        answers.flush()


def _in_a_copy(serialised: Any, arguments: Any) -> int | None:
    readable, writable = os.pipe()
    copy = os.fork()
    if copy == 0:
        try:
            os.write(writable, str(_peak(serialised, arguments)).encode())
        finally:
            os._exit(0)  # Nothing of the original's must be closed or flushed by its copy.
    os.close(writable)
    with os.fdopen(readable) as pipe:
        said = pipe.read()
    os.waitpid(copy, 0)
    return int(said) if said.isdigit() else None


def _peak(serialised: Any, arguments: Any) -> int | None:
    import jax
    from jax.experimental.serialize_executable import deserialize_and_load

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
    main()
