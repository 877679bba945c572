"""The progress of a comparison: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TextIO


class Progress(Protocol):
    """What is told while a comparison runs."""

    def update(self, text: str, fraction: float) -> None:
        """Tell what begins; `fraction` (0 to 1) of everything is done."""

    def log(self, text: str) -> None:
        """Tell that a group is finished, in a line worth keeping."""


class Silent:
    """Tells nothing."""

    def update(self, text: str, fraction: float) -> None:
        """Ignore it."""

    def log(self, text: str) -> None:
        """Ignore it."""


class Lines(Silent):
    """Writes finished groups as plain lines, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def log(self, text: str) -> None:
        """Write the line."""
        self._stream.write(text + "\n")
        self._stream.flush()


class ProgressBar:
    """Rich's progress bar, with the lines above it."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=1.0)

    def update(self, text: str, fraction: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, description=text, completed=fraction)

    def log(self, text: str) -> None:
        """Write the line above the bar."""
        self._bar.console.print(text, highlight=False, markup=False)


@contextmanager
def _show_bar(bar: Any) -> Iterator[ProgressBar]:
    with bar:
        yield ProgressBar(bar)


def shown(stream: TextIO | None = None) -> AbstractContextManager[Progress]:
    """Return the progress for a stream (standard error), to be used in a `with` statement."""
    stream = stream or sys.stderr
    if not stream.isatty():
        return nullcontext(Lines(stream))
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        return nullcontext(Lines(stream))
    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    return _show_bar(Progress(*columns, console=Console(file=stream), transient=True))


def told(progress: Progress | bool | None) -> AbstractContextManager[Progress]:
    """Return the progress that a caller asks for: a bar for True, none for None or False."""
    if progress is True:
        return shown()
    return nullcontext(progress or Silent())
