"""How far a comparison is: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TextIO


class Progress(Protocol):
    """What a comparison tells while it runs."""

    def update(self, text: str, fraction: float) -> None:
        """Something begins; `fraction` (0 to 1) of everything is done."""

    def log(self, text: str) -> None:
        """A group is finished: a line worth keeping."""


class Silent:
    """Tells nothing."""

    def update(self, text: str, fraction: float) -> None:
        """Ignore it."""

    def log(self, text: str) -> None:
        """Ignore it."""


class Lines:
    """Writes finished groups as plain lines, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def update(self, text: str, fraction: float) -> None:
        """Ignore it: a log keeps what is finished."""

    def log(self, text: str) -> None:
        """Write the line."""
        self._stream.write(text + "\n")
        self._stream.flush()


class Bar:
    """A bar of rich's, with the lines above it."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=1.0)

    def update(self, text: str, fraction: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, description=text, completed=fraction)

    def log(self, text: str) -> None:
        """Write the line above the bar."""
        self._bar.console.print(text, highlight=False, markup=False)


class _RunningBar(AbstractContextManager[Bar]):
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def __enter__(self) -> Bar:
        self._bar.start()
        return Bar(self._bar)

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()


def shown(stream: TextIO | None = None) -> AbstractContextManager[Progress]:
    """Return the progress that suits a stream, standard error if none is given.

    It is to be used in a `with` statement.
    """
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
    return _RunningBar(Progress(*columns, console=Console(file=stream), transient=True))


def told(progress: Progress | bool | None) -> AbstractContextManager[Progress]:
    """Return who is told how far it is: a bar for True, nobody for None or False."""
    if progress is True:
        return shown()
    return nullcontext(progress or Silent())
