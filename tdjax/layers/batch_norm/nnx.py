"""Has every `nnx.BatchNorm` inside a module normalise with statistics that it is told.

NNX has no way to intercept calls, so the copy that runs changes its class for the call.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Any

from flax import nnx

from tdjax.layers.batch_norm.statistics import moved_on, of_real_rows, settings, with_axes
from tdjax.layers.layer import Statistics

_told: contextvars.ContextVar[Statistics] = contextvars.ContextVar("tdjax_statistics")


@contextlib.contextmanager
def normalising_with(module: nnx.Module, statistics: Statistics | None) -> Iterator[None]:
    """Have batch normalisation average over named axes, count real rows alone, or be frozen."""
    if statistics is None:
        yield
        return
    layers = [m for _, m in nnx.iter_modules(module) if isinstance(m, nnx.BatchNorm)]
    kinds = [type(layer) for layer in layers]
    token = _told.set(statistics)
    try:
        for layer, kind in zip(layers, kinds, strict=True):
            object.__setattr__(layer, "__class__", _told_kind(kind))
        yield
    finally:
        _told.reset(token)
        for layer, kind in zip(layers, kinds, strict=True):
            object.__setattr__(layer, "__class__", kind)


class _Told(nnx.BatchNorm):
    """Does what it is told."""

    def __call__(self, x: Any, use_running_average: bool | None = None, *, mask: Any = None) -> Any:
        statistics = _told.get()
        if statistics.frozen:
            return super().__call__(x, True)
        given = self.use_running_average if use_running_average is None else use_running_average
        if given is None or given or statistics.mask is None:
            names = with_axes(self.axis_name, statistics.axis_names)
            with settings(self, axis_name=names or None):
                return super().__call__(x, use_running_average, mask=mask)
        found: list[Any] = []

        def promote(values: tuple, **options: Any) -> tuple:
            """Put statistics in the place of the running ones, in their full precision."""
            x, _, _, scale, bias = promote_dtype(values, **options)
            found.extend(of_real_rows(self, x, statistics, mask))
            return (x, *found, scale, bias)

        promote_dtype = self.promote_dtype
        with settings(self, promote_dtype=promote):
            output = super().__call__(x, True)
        for variable, new in zip((self.mean, self.var), found, strict=True):
            variable[...] = moved_on(self, variable[...], new)
        return output


@functools.cache
def _told_kind(kind: type) -> type:
    """Return a class that is told at the place of Flax's own, whatever is around it."""
    bases = (_Told,) if kind is nnx.BatchNorm else (kind, _Told)

    class BatchNorm(*bases):  # type: ignore[misc]
        """Stands in for a class while it is called."""

    return BatchNorm
