"""A first call that can be ended: in a process of its own, with a deadline.

A call of a compiled program cannot be interrupted from within its process, and some take a
thousand times longer than their siblings (on XLA:CPU, a convolution's gradient inside a loop).
So where a program loops, its executable is serialised and first called in a worker process,
which is ended at the deadline. It is the same executable: nothing is traced or compiled again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tdjax.comparison.measuring.program import Program
from tdjax.comparison.system.child import Child, ChildDied, TooSlow
from tdjax.core.arrays import on_several_devices

_START_TIMEOUT = 60.0


class CallFailed(Exception):
    """The call raised, or its process died."""


@dataclass(frozen=True)
class Call:
    """A call that came back: its time and its flat outputs."""

    seconds: float
    outputs: list[np.ndarray]


class Guard:
    """Runs first calls in a worker process, which starts when it is first needed."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._arguments: Any = None

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def call(self, program: Program, arguments: Sequence[Any], deadline: float) -> Call | None:
        """Call the program once.

        Args:
            program: what to call.
            arguments: the pytrees of arrays that it takes.
            deadline: seconds after which the call is ended.

        Returns:
            The call, or None where this program cannot be carried to another process.

        Raises:
            TooSlow: the deadline passed.
            CallFailed: the program raised, or its process died.
        """
        from jax.experimental.serialize_executable import serialize

        if on_several_devices(arguments):
            return None
        try:
            serialised = serialize(program.run)
        except Exception:  # Whether a backend can serialise is known by trying.
            return None
        try:
            answer = self._with_arguments(arguments).ask(("call", serialised), deadline)
        except TooSlow:
            self.close()
            raise
        except ChildDied as error:
            self.close()
            raise CallFailed(f"the process that ran it {error}") from None
        if answer[0] == "failed":
            raise CallFailed(answer[1])
        return Call(*answer[1:])

    def close(self) -> None:
        """End the worker process, whatever it is doing."""
        child, self._child, self._arguments = self._child, None, None
        if child is not None:
            child.close()

    def _with_arguments(self, arguments: Sequence[Any]) -> Child:
        """Return the worker with these arguments on its device."""
        if self._child is not None and self._arguments is arguments:
            return self._child
        if self._child is None:
            script = Path(__file__).with_name("first_call_worker.py")
            self._child = Child(script, {"JAX_PLATFORMS": "cpu"})
        arrays = jax.tree.map(np.asarray, arguments)
        try:
            self._child.ask(("arguments", arrays), _START_TIMEOUT)
        except TooSlow:
            self.close()
            raise CallFailed(f"its process did not start within {_START_TIMEOUT:g} s") from None
        self._arguments = arguments
        return self._child
