"""A child process that answers pickled requests, one at a time, and can be ended while it works.

What it prints is kept from the user; its last line explains a death.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax


class TooSlow(Exception):
    """The answer was not there at its deadline; the process is ended."""


class ChildDied(Exception):
    """The process ended before it answered."""


class Child:
    """One process that runs a script of this package.

    The script reads pickled requests from standard input and pickles one answer to each on
    standard output.

    Args:
        script: its path. It needs JAX alone: nothing of tdjax is imported in the process.
        environment: variables to set, besides those of this process.
    """

    def __init__(self, script: Path, environment: Mapping[str, str]) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        # Ctrl-C is for this process to handle: the child is in a session of its own.
        self._process = subprocess.Popen(
            # By its path, and -P: its folder's modules shadow nothing.
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "JAX_ENABLE_X64": str(jax.config.values["jax_enable_x64"]),
                **environment,
            },
            start_new_session=True,
        )
        self._answers: queue.Queue[Any] = queue.Queue()
        threading.Thread(
            target=_forward, args=(self._process.stdout, self._answers), daemon=True
        ).start()

    @property
    def ended(self) -> bool:
        """Whether the process runs no more."""
        return self._process.poll() is not None

    def ask(self, request: Any, deadline: float) -> Any:
        """Send a request and return its answer.

        Raises:
            TooSlow: it was not there after `deadline` seconds.
            ChildDied: the process ended; the message says how.
        """
        assert self._process.stdin is not None
        try:
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # The process died or was ended; reading its answer finds out and says how.
        try:
            answer = self._answers.get(timeout=deadline)
        except queue.Empty:
            self.close()
            raise TooSlow from None
        if isinstance(answer, EOFError):
            code = self._process.wait()
            complaint = self._last_complaint()
            self.close()
            raise ChildDied(f"ended with code {code}{complaint}")
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._complaints):
            if pipe is not None:
                pipe.close()

    def _last_complaint(self) -> str:
        """Return the last line that the process wrote to standard error."""
        if self._complaints.closed:
            return ""
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()}" if lines else ""


def _forward(pipe: Any, answers: queue.Queue[Any]) -> None:
    """Move answers from a pipe, which has no timeout, to a queue, which has one."""
    try:
        while True:
            answers.put(pickle.load(pipe))
    except (EOFError, OSError, ValueError, pickle.UnpicklingError):
        answers.put(EOFError())
