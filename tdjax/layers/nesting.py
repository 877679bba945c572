"""What a wrapper must know of the wrappers around it, while their steps are traced."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, NamedTuple

from tdjax.layers.layer import Layer

Scalars = list[tuple[Any, Any]]
"""The path of each in the whole model, if that is known, and its value."""


class _Surroundings(NamedTuple):
    """What is around.

    Attributes:
        depth: how many wrappers.
        drops_writes: whether one of them drops what layers write.
        scalars: what the innermost one collects; None outside of all wrappers.
    """

    depth: int = 0
    drops_writes: bool = False
    scalars: Scalars | None = None

    @property
    def axis_name(self) -> str:
        """A name for the innermost wrapper's time axis, that no other wrapper uses."""
        return f"tdjax_time_{self.depth}"


_NOTHING = _Surroundings()
_around = contextvars.ContextVar("tdjax_around", default=_NOTHING)


@contextlib.contextmanager
def _surround(**changes: Any) -> Iterator[_Surroundings]:
    around = _around.get()._replace(**changes)
    token = _around.set(around)
    try:
        yield around
    finally:
        _around.reset(token)


def within_wrapper() -> contextlib.AbstractContextManager[_Surroundings]:
    """Have what runs inside know of one more wrapper around it."""
    return _surround(depth=_around.get().depth + 1)


def dropping_writes() -> contextlib.AbstractContextManager[_Surroundings]:
    """Have wrappers inside compute outputs only, in one trace, and drop what layers write."""
    return _surround(drops_writes=True)


def drops_writes() -> bool:
    """Say whether a wrapper around this one drops what layers write."""
    return _around.get().drops_writes


def collecting_scalars(scalars: Scalars) -> contextlib.AbstractContextManager[_Surroundings]:
    """Collect the scalars that wrappers inside a step return, stacked over their own time."""
    return _surround(scalars=scalars)


def report_scalars(layer: Layer, values: dict[str, Any]) -> None:
    """Tell the wrapper around this one, if any, that these sown values have times but no rows."""
    collected = _around.get().scalars
    if collected is not None:
        collected.extend((layer.path_in_model(name), value) for name, value in values.items())


def is_scalar(layer: Layer, name: str, value: Any, scalars: Scalars) -> bool:
    """Say whether a sown value is one of the collected scalars, whose time is not to be a batch."""
    path = layer.path_in_model(name)
    return any(value is other or (where is not None and where == path) for where, other in scalars)
