"""Calls of a compiled program in other processes: with a deadline, and for their peak memory.

A call of a compiled program cannot be interrupted from within its process, and some take a
thousand times longer than their siblings (on XLA:CPU, a convolution's gradient inside a loop).
So a program that loops is first called in a process that is ended at the deadline.

Nor can the peak memory of a call be seen in this process, which uses again what other candidates
freed, and counts what they hold. So a process that has imported JAX, and has done nothing else, is
copied (fork) for every candidate, before its device is initialized.

What is called there is the same executable, serialized: nothing is traced or compiled again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tdjax.comparison.measuring.program import CompiledProgram
from tdjax.comparison.system.child import Child, ChildDied, Failed, TooSlow
from tdjax.core.arrays import on_several_devices

_WORKER = Path(__file__).with_name("call_worker.py")
_START_TIMEOUT = 60.0
# How a process takes its arguments before the first question of a kind.
_PREPARE = {"first_call": "put_on_device", "peak_memory": "keep"}


@dataclass(frozen=True)
class TimedCall:
    """A call that came back: its time and, where they were asked for, its flat outputs."""

    seconds: float
    outputs: list[np.ndarray] | None


class CallClient(AbstractContextManager["CallClient"]):
    """Has programs called in a process for each kind of question, started when first needed.

    Args:
        platform: where the programs run: "cpu", "gpu" or "tpu".
    """

    def __init__(self, platform: str) -> None:
        self._platform = platform
        self._children: dict[str, Child] = {}
        self._arguments: dict[str, Any] = {}
        self._closed = False

    def __exit__(self, *exception: object) -> None:
        self.close()

    def first_call(
        self,
        program: CompiledProgram,
        arguments: Sequence[Any],
        deadline: float,
        enough_s: float | None = None,
    ) -> TimedCall | None:
        """Call the program once.

        Args:
            program: what to call.
            arguments: the pytrees of arrays that it takes.
            deadline: seconds after which the call is ended.
            enough_s: outputs are returned of a call that takes longer alone; None: of every one.

        Returns:
            The call, or None where this program cannot be carried to another process.

        Raises:
            TooSlow: the deadline passed.
            Failed: the program raised, or its process died.
        """
        try:
            answer = self._ask("first_call", program, arguments, deadline, enough_s)
        except ChildDied as error:
            raise Failed(f"the process that ran it {error}") from None
        return None if answer is None else TimedCall(*answer)

    def peak_memory(
        self, program: CompiledProgram, arguments: Sequence[Any], deadline: float
    ) -> int | None:
        """Return the bytes of the arguments and what the first call adds to them.

        On a CPU the addition is that of resident memory; elsewhere the device's own count.
        None where that cannot be measured: the device cannot be used by two processes, the
        program cannot be carried to another one, or the call fails there.

        Args:
            program: what to call.
            arguments: the pytrees of arrays that it takes, all on one device.
            deadline: seconds after which the call is given up.
        """
        # Only Linux has a fork that JAX survives and can be asked for a peak, and a TPU belongs
        # to one process.
        if not sys.platform.startswith("linux") or self._platform == "tpu":
            return None
        try:
            peak: int | None = self._ask("peak_memory", program, arguments, deadline)
        except (TooSlow, ChildDied, Failed):
            return None
        return peak

    def close(self) -> None:
        """End the processes, whatever they are doing; none is started any more."""
        self._closed = True
        for child in self._children.values():
            child.close()
        self._children.clear()
        self._arguments.clear()

    def _ask(
        self,
        question: str,
        program: CompiledProgram,
        arguments: Sequence[Any],
        deadline: float,
        *more: float | None,
    ) -> Any:
        """Return the answer, or None where the program cannot be carried to another process."""
        from jax.experimental.serialize_executable import serialize

        if self._closed or on_several_devices(arguments):
            return None
        try:
            executable = serialize(program.executable)
        except Exception:  # Whether a backend can serialize is known by trying.
            return None
        return self._prepared(question, arguments).ask((question, (executable, *more)), deadline)

    def _prepared(self, question: str, arguments: Sequence[Any]) -> Child:
        """Return the process for a kind of question, with these arguments."""
        child = self._children.get(question)
        if child is None or child.ended:
            # An accelerator's memory is taken as it is needed: this process has most of it.
            environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
            if self._platform == "cpu":
                environment["JAX_PLATFORMS"] = "cpu"
            child = self._children[question] = Child(_WORKER, environment)
        elif self._arguments.get(question) is arguments:
            return child
        arrays = jax.tree.map(np.asarray, arguments)
        try:
            child.ask((_PREPARE[question], arrays), _START_TIMEOUT)
        except TooSlow:
            raise Failed(f"its process did not start within {_START_TIMEOUT:g} s") from None
        self._arguments[question] = arguments
        return child
