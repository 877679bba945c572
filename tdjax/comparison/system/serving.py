"""The child's side of a child process: it answers requests, in copies of itself where asked to.

A copy can be ended without ending the process that it was copied from. It starts at once, with
everything imported, if that process has few threads and has initialized no device.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from tdjax.comparison.system.child import Failed

_LOOK_EVERY_S = 0.05


def serve(worker: object) -> None:
    """Answer pickled requests from standard input, on standard output, until the input ends.

    Args:
        worker: a request is `(name, payload)`, and its method of that name is called with the
            payload. What it raises is answered as `Failed`.
    """
    answers = os.fdopen(os.dup(1), "wb")
    # What other code prints in this process, compilers above all, must not mix with the answers.
    os.dup2(2, 1)
    while True:
        try:
            name, payload = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_attempt(getattr(worker, name), payload), answers)
        answers.flush()


def in_a_copy(work: Callable[[], Any], until: Callable[[], bool] | None = None) -> Any:
    """Return what `work` returns in a copy of this process; None where it was ended first.

    A copy that dies takes this process with it, in the same way, so that the parent learns why.

    Args:
        work: what to do; its result is pickled.
        until: asked many times a second whether to end the copy; None: never.

    Raises:
        Failed: `work` raised.
    """
    readable, writable = os.pipe()
    copy = os.fork()
    if copy == 0:
        _work(work, writable)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        while not select.select([pipe], [], [], _LOOK_EVERY_S)[0]:
            if until is not None and until():
                os.kill(copy, signal.SIGKILL)
                os.waitpid(copy, 0)
                return None
        pickled = pipe.read()
    _, status = os.waitpid(copy, 0)
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    if not pickled:
        os._exit(os.waitstatus_to_exitcode(status) or 1)
    result = pickle.loads(pickled)
    if isinstance(result, Failed):
        raise result
    return result


def _work(work: Callable[[], Any], writable: int) -> NoReturn:
    # The copy must not hold the original's pipes open: their readers wait for the end of input.
    # Open descriptors are listed, since the limit on their number may be 10^9.
    for descriptor in map(int, os.listdir("/dev/fd")):
        if descriptor > 2 and descriptor != writable:
            with contextlib.suppress(OSError):  # the list's own is closed already
                os.close(descriptor)
    code = 1
    try:
        result = _attempt(work)
        with os.fdopen(writable, "wb") as pipe:
            pickle.dump(result, pipe)
        code = 0
    finally:
        os._exit(code)  # A copy must not close or flush what belongs to the original.


def _attempt(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `work` returns, or as `Failed` what it raises."""
    try:
        return work(*arguments)
    except Failed as error:
        return error
    except Exception as error:
        return Failed(f"{type(error).__name__}: {error}")
