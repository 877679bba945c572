"""A Ctrl-C or SIGTERM that is not lost, even if it is raised in the callback of a library."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tdjax.comparison.system.progress import Progress


class Heeding:
    """A progress that raises KeyboardInterrupt where an earlier one was lost.

    Attributes:
        asked: whether Ctrl-C was pressed, or the process told to end.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.asked = False

    def update(self, text: str, fraction: float) -> None:
        """Tell the progress, unless the comparison is to end."""
        self._check()
        self._progress.update(text, fraction)

    def log(self, text: str) -> None:
        """Tell the progress, unless the comparison is to end."""
        self._check()
        self._progress.log(text)

    def _check(self) -> None:
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def heeding(progress: Progress) -> Iterator[Heeding]:
    """Give a progress that raises KeyboardInterrupt at the next step after Ctrl-C, at the latest.

    Python raises it at whatever line runs at that moment. In a callback, such as JAX's for the
    garbage collector, it would be written to standard error and forgotten. SIGTERM, which cluster
    schedulers and `timeout` send to what takes too long, counts as Ctrl-C, once: `timeout` sends
    it twice, to a process and to its group.
    """
    told = Heeding(progress)

    def ask(number: int, frame: FrameType | None) -> None:
        if told.asked and number == signal.SIGTERM:
            return
        told.asked = True
        raise KeyboardInterrupt

    # A shell lets what runs in its background ignore Ctrl-C, and only the main thread may listen.
    usual: dict[int, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    heeded = [number for number, handler in usual.items() if signal.getsignal(number) is handler]
    if threading.current_thread() is not threading.main_thread():
        heeded = []
    complain = sys.unraisablehook

    def unless_asked(lost: sys.UnraisableHookArgs) -> None:
        if not (told.asked and issubclass(lost.exc_type, KeyboardInterrupt)):
            complain(lost)

    for number in heeded:
        signal.signal(number, ask)
    sys.unraisablehook = unless_asked
    try:
        yield told
    finally:
        sys.unraisablehook = complain
        for number in heeded:
            signal.signal(number, usual[number])
