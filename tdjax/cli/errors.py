"""How a call of the command line ends that cannot be answered, or was cut short."""

from __future__ import annotations

INTERRUPTED = 130


class Wrong(Exception):
    """A call that cannot be answered; its text is the one line that the user sees."""
