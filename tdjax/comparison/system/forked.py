"""Work in a copy of this process, which can be ended without ending what it was copied from.

To be called in a process of few threads that has imported what the work needs, and has initialised
no device: a copy then starts in no time, with everything imported.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
from collections.abc import Callable
from typing import Any, NoReturn

_LOOK_EVERY_S = 0.05


class Failed(Exception):
    """What the work raised: its kind and its text."""


def in_a_copy(work: Callable[[], Any], until: Callable[[], bool] | None = None) -> Any:
    """Return what `work` returns in a copy of this process; None where it was ended first.

    A copy that dies takes this process with it, in the same way: its parent can tell why.

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
        said = pipe.read()
    _, status = os.waitpid(copy, 0)
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    if not said:
        os._exit(os.waitstatus_to_exitcode(status) or 1)
    failed, value = pickle.loads(said)
    if failed:
        raise Failed(value)
    return value


def _work(work: Callable[[], Any], writable: int) -> NoReturn:
    # The pipes of the original are not the copy's: whoever reads them must see it end. Those that
    # are open are listed, since there may be a thousand million that could be.
    for descriptor in map(int, os.listdir("/dev/fd")):
        if descriptor > 2 and descriptor != writable:
            with contextlib.suppress(OSError):  # the list's own is closed already
                os.close(descriptor)
    code = 1
    try:
        try:
            said = False, work()
        except Exception as error:
            said = True, f"{type(error).__name__}: {error}"
        with os.fdopen(writable, "wb") as pipe:
            pickle.dump(said, pipe)
        code = 0
    finally:
        os._exit(code)  # Nothing of the original's must be closed or flushed by its copy.
