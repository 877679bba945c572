"""`TDJAX_STRATEGY` in the environment: one strategy in the place of `auto`, in a whole process."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
from collections.abc import Iterator

from tdjax.strategies.base import Strategy
from tdjax.strategies.spelling import parse

VARIABLE = "TDJAX_STRATEGY"
_ignored: contextvars.ContextVar[bool] = contextvars.ContextVar("ignored", default=False)


def override() -> Strategy | None:
    """Return the strategy that is set, if one is.

    Raises:
        ValueError: the text stands for none.
    """
    text = os.environ.get(VARIABLE)
    return None if not text or _ignored.get() else _read(text)


@functools.cache
def _read(text: str) -> Strategy:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(
            f"{VARIABLE}={text} in the environment: {error} Or unset it, and auto chooses."
        ) from None


@contextlib.contextmanager
def ignoring_override() -> Iterator[None]:
    """Let `auto` choose inside, for comparisons and tuning, which look at its choice."""
    token = _ignored.set(True)
    try:
        yield
    finally:
        _ignored.reset(token)
