"""A first call that can be ended: in a process of its own, with a deadline.

A call of a compiled program cannot be interrupted from within its process, and some take a
thousand times longer than their siblings (on XLA:CPU, a convolution's gradient inside a loop).
So where a program loops, its executable is serialised and first called in a worker process,
which is ended at the deadline. It is the same executable: nothing is traced or compiled again.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from tdjax.comparison.program import Program

_START_TIMEOUT = 60.0


class TooSlow(Exception):
    """The call was still running at its deadline."""


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
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[Any] = queue.Queue()
        self._arguments: Any = None
        self._complaints: IO[bytes] | None = None

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

        try:
            serialised = serialize(program.run)
        except Exception:  # Whether a backend can serialise is known by trying.
            return None
        self._send_arguments(arguments)
        self._send(("call", serialised))
        answer = self._receive(deadline)
        if answer[0] == "failed":
            raise CallFailed(answer[1])
        return Call(*answer[1:])

    def close(self) -> None:
        """End the worker process, whatever it is doing."""
        process, self._process, self._arguments = self._process, None, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, self._complaints):
                if pipe is not None:
                    pipe.close()

    def _last_complaint(self) -> str:
        """Return the last line that the process wrote to standard error."""
        assert self._complaints is not None
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()}" if lines else ""

    def _send_arguments(self, arguments: Sequence[Any]) -> None:
        if self._process is not None and self._arguments is arguments:
            return
        self._start()
        self._send(("arguments", jax.tree.map(np.asarray, arguments)))
        try:
            self._receive(_START_TIMEOUT)
        except TooSlow:
            raise CallFailed(f"its process did not start within {_START_TIMEOUT:g} s") from None
        self._arguments = arguments

    def _start(self) -> None:
        if self._process is not None:
            return
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": str(jax.config.values["jax_enable_x64"]),
        }
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        # Ctrl-C is for this process to handle: the worker is in a session of its own.
        self._process = subprocess.Popen(
            # By its path, and -P: it needs JAX alone, and its folder's modules shadow nothing.
            [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=environment,
            start_new_session=True,
        )
        self._answers = queue.Queue()
        threading.Thread(
            target=_forward, args=(self._process.stdout, self._answers), daemon=True
        ).start()

    def _send(self, request: Any) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # The worker died; `_receive` finds out and says how.

    def _receive(self, deadline: float) -> Any:
        try:
            answer = self._answers.get(timeout=deadline)
        except queue.Empty:
            self.close()
            raise TooSlow from None
        if isinstance(answer, EOFError):
            process = self._process
            code = None if process is None else process.wait()
            complaint = self._last_complaint()
            self.close()
            raise CallFailed(f"the process that ran it ended with code {code}{complaint}")
        return answer


def _forward(pipe: Any, answers: queue.Queue[Any]) -> None:
    """Move answers from a pipe, which has no timeout, to a queue, which has one."""
    try:
        while True:
            answers.put(pickle.load(pipe))
    except (EOFError, OSError, ValueError, pickle.UnpicklingError):
        answers.put(EOFError())
