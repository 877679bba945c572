"""The peak memory of a candidate: of a process that has nothing but its arguments, and calls it.

In this process that cannot be seen: what other candidates freed is used again, and what they
hold is counted as well. So a process that has imported JAX, and done nothing else, is copied
(fork) for every candidate, before its device is initialised.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tdjax.comparison.measuring.program import Program
from tdjax.comparison.system.child import Child, ChildDied, TooSlow
from tdjax.core.arrays import on_several_devices

_START_TIMEOUT = 60.0


class PeakMemory:
    """Measures peaks in copies of one process, which starts when it is first needed.

    Args:
        platform: the target: "cpu", "gpu" or "tpu".
    """

    def __init__(self, platform: str) -> None:
        self._platform = platform
        self._child: Child | None = None
        self._arguments: Any = None
        # Elsewhere there is no fork that JAX survives, and no way to ask for a peak; and a TPU
        # belongs to one process.
        self._possible = sys.platform.startswith("linux") and platform != "tpu"

    def __enter__(self) -> PeakMemory:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def measure(self, program: Program, arguments: Sequence[Any], deadline: float) -> int | None:
        """Return the bytes of the arguments and what the first call adds to them.

        On a CPU the addition is that of resident memory; elsewhere the device's own count.
        None where that cannot be measured: the device cannot be used by two processes, the
        program cannot be carried to another one, or the call fails there.

        Args:
            program: what to call.
            arguments: the pytrees of arrays that it takes, all on one device.
            deadline: seconds after which the call is given up.
        """
        from jax.experimental.serialize_executable import serialize

        if not self._possible or on_several_devices(arguments):
            return None
        try:
            serialised = serialize(program.run)
        except Exception:  # Whether a backend can serialise is known by trying.
            self._possible = False
            return None
        try:
            answer = self._with_arguments(arguments).ask(("peak", serialised), deadline)
        except (TooSlow, ChildDied):
            self.close()
            return None
        return answer if isinstance(answer, int) else None  # else the call failed there

    def close(self) -> None:
        """End the process."""
        child, self._child, self._arguments = self._child, None, None
        if child is not None:
            child.close()

    def _with_arguments(self, arguments: Sequence[Any]) -> Child:
        """Return the process with these arguments in its memory, and on no device yet."""
        if self._child is None:
            # An accelerator's memory is taken as it is needed: this process has most of it.
            environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
            if self._platform == "cpu":
                environment["JAX_PLATFORMS"] = "cpu"
            self._child = Child(Path(__file__).with_name("peak_memory_worker.py"), environment)
        if self._arguments is not arguments:
            arrays = jax.tree.map(np.asarray, arguments)
            self._child.ask(("arguments", arrays), _START_TIMEOUT)
            self._arguments = arguments
        return self._child


class NoPeakMemory(PeakMemory):
    """Measures none, where only time counts."""

    def __init__(self) -> None:
        super().__init__("none")

    def measure(self, program: Program, arguments: Sequence[Any], deadline: float) -> int | None:
        """Return None."""
        return None
