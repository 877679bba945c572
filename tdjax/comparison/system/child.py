"""A child process that answers pickled requests, one at a time, and can be ended while it works.

What it prints is hidden, unless `TDJAX_VERBOSE` is set; its last line explains why it died.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

_LOOK_EVERY_S = 0.1


class TooSlow(Exception):
    """The answer was not there at its deadline."""


class ChildDied(Exception):
    """The process ended before it answered."""


class Failed(Exception):
    """The work that was asked for raised; the message has the kind and the text of its error."""


class Child:
    """One process that runs a script of this package.

    The script reads pickled requests from standard input and pickles one answer to each on
    standard output, as `tdjax.comparison.system.serving.serve` does.

    Args:
        script: its path.
        environment: variables to set, besides those of this process.
    """

    def __init__(self, script: Path, environment: Mapping[str, str]) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        # Ctrl-C is for this process to handle: the child is in a session of its own.
        self._process = subprocess.Popen(
            # By its path, with -P: the modules beside it must not shadow others.
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
        """Whether the process has ended."""
        return self._process.poll() is not None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, request: Any, deadline: float, watch: Callable[[], None] | None = None) -> Any:
        """Send a request and return its answer.

        Args:
            request: what the script understands; any picklable value.
            deadline: seconds that the answer may take.
            watch: called every tenth of a second until then; what it raises ends the process.

        Raises:
            TooSlow: it was not there after `deadline` seconds; the process is ended.
            ChildDied: the process ended; the message says how.
            Failed: the script answered with it.
        """
        assert self._process.stdin is not None
        try:
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # The process died or was ended; reading its answer finds out how.
        try:
            answer = self._answer(deadline, watch)
        except BaseException:
            self.close()
            raise
        if isinstance(answer, EOFError):
            end = _in_words(self._process.wait())
            complaint = "".join(f": {line.strip()}" for line in self._complaint_lines()[-1:])
            self.close()
            raise ChildDied(f"{end}{complaint}")
        if isinstance(answer, Failed):
            raise answer
        return answer

    def close(self) -> None:
        """End the process and its copies, whatever they are doing."""
        if sys.platform == "win32":  # There are no copies there.
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if os.environ.get("TDJAX_VERBOSE"):
            sys.stderr.write("".join(f"{line}\n" for line in self._complaint_lines()))
        for pipe in (self._process.stdin, self._process.stdout, self._complaints):
            if pipe is not None:
                pipe.close()

    def _answer(self, deadline: float, watch: Callable[[], None] | None) -> Any:
        end = time.monotonic() + deadline
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                return self._answers.get(timeout=min(left, _LOOK_EVERY_S))
            except queue.Empty:
                if time.monotonic() >= end:
                    raise TooSlow from None
            if watch is not None:
                watch()

    def _complaint_lines(self) -> list[str]:
        """Return what the process wrote to standard error."""
        if self._complaints.closed:
            return []
        self._complaints.seek(0)
        return self._complaints.read().decode(errors="replace").strip().splitlines()


def _in_words(code: int) -> str:
    """Return how a process ended, from the code that it ended with."""
    if code >= 0:
        return f"ended with code {code}"
    if -code == getattr(signal, "SIGKILL", None):
        return "was killed from outside (signal 9), as a system does that runs out of memory"
    return f"ended by signal {-code} ({signal.strsignal(-code)})"


def _forward(pipe: Any, answers: queue.Queue[Any]) -> None:
    """Move answers from a pipe, which has no timeout, to a queue, which has one."""
    try:
        while True:
            answers.put(pickle.load(pipe))
    except (EOFError, OSError, ValueError, pickle.UnpicklingError):
        answers.put(EOFError())
