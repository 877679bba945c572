"""What a wrapper must know of the wrappers around it, while their steps are traced."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

from tdjax.layers.layer import Layer

Scalars = list[tuple[Any, Any]]
"""The path of each in the whole model, if that is known, and its value."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Surroundings:
    depth: int = 0  # how many wrappers are around
    drops_writes: bool = False
    scalars: Scalars | None = None  # what they collect; None outside of all wrappers


_NOTHING = _Surroundings()
_around = contextvars.ContextVar("tdjax_around", default=_NOTHING)


@contextlib.contextmanager
def _surround(**changes: Any) -> Iterator[None]:
    token = _around.set(dataclasses.replace(_around.get(), **changes))
    try:
        yield
    finally:
        _around.reset(token)


@contextlib.contextmanager
def time_axis() -> Iterator[str]:
    """Give a name for the time axis that no wrapper around this one uses."""
    depth = _around.get().depth
    with _surround(depth=depth + 1):
        yield f"tdjax_time_{depth}"


def dropping_writes() -> contextlib.AbstractContextManager[None]:
    """Have wrappers inside compute outputs only, in one trace, and drop what layers write."""
    return _surround(drops_writes=True)


def drops_writes() -> bool:
    """Say whether a wrapper around this one drops what layers write."""
    return _around.get().drops_writes


@contextlib.contextmanager
def collect_scalars() -> Iterator[Scalars]:
    """Collect the scalars that wrappers inside a step return, stacked over their own time."""
    collected: Scalars = []
    with _surround(scalars=collected):
        yield collected


def report_scalars(layer: Layer, values: dict[str, Any]) -> None:
    """Tell the wrapper around this one, if any, that these sown values have times but no rows."""
    collected = _around.get().scalars
    if collected is not None:
        collected.extend((layer.path_in_model(name), value) for name, value in values.items())


def is_scalar(layer: Layer, name: str, value: Any, scalars: Scalars) -> bool:
    """Say whether a sown value is one of the collected scalars, whose time is not to be a batch."""
    path = layer.path_in_model(name)
    return any(value is other or (where is not None and where == path) for where, other in scalars)
