"""Scalars sown in nested wrappers: an inner one's time is not to be taken for rows."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

from tdjax.layers.layer import Layer

Scalars = list[tuple[Any, Any]]
"""Where each stands in the whole model, if that is known, and its value."""

_reported: contextvars.ContextVar[Scalars | None] = contextvars.ContextVar(
    "tdjax_scalars", default=None
)


@contextlib.contextmanager
def scalars_inside() -> Iterator[Scalars]:
    """Collect what wrappers inside a step make of scalars."""
    collected: Scalars = []
    token = _reported.set(collected)
    try:
        yield collected
    finally:
        _reported.reset(token)


def report_scalars(layer: Layer, values: dict[str, Any]) -> None:
    """Tell the wrapper around this one, if any, which sown values have times and no rows."""
    collected = _reported.get()
    if collected is not None:
        collected.extend((layer.place(name), value) for name, value in values.items())


def is_scalar(layer: Layer, name: str, value: Any, scalars: Scalars) -> bool:
    """Say whether a value that was sown is one of those that were collected."""
    place = layer.place(name)
    return any(value is other or (where is not None and where == place) for where, other in scalars)
