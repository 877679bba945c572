"""Makes every `nnx.BatchNorm` inside a module normalize with given statistics.

NNX has no way to intercept calls, so the copy of the module that runs has the class of its layers
changed for the call.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Any

from flax import nnx

from tdjax.layers.batch_norm.statistics import merge_names, overriding, pool_rows, update_running
from tdjax.layers.layer import Statistics

_statistics: contextvars.ContextVar[Statistics] = contextvars.ContextVar("tdjax_statistics")


@contextlib.contextmanager
def normalizing_with(module: nnx.Module, statistics: Statistics | None) -> Iterator[None]:
    """Make batch normalization average over named axes, count real rows only, or be frozen."""
    if statistics is None:
        yield
        return
    layers = [m for _, m in nnx.iter_modules(module) if isinstance(m, nnx.BatchNorm)]
    kinds = [type(layer) for layer in layers]
    token = _statistics.set(statistics)
    try:
        for layer, kind in zip(layers, kinds, strict=True):
            object.__setattr__(layer, "__class__", _given_kind(kind))
        yield
    finally:
        _statistics.reset(token)
        for layer, kind in zip(layers, kinds, strict=True):
            object.__setattr__(layer, "__class__", kind)


class _GivenStatistics(nnx.BatchNorm):
    """Normalizes with the statistics given for the call."""

    def __call__(self, x: Any, use_running_average: bool | None = None, *, mask: Any = None) -> Any:
        statistics = _statistics.get()
        if statistics.frozen:
            return super().__call__(x, True)
        given = self.use_running_average if use_running_average is None else use_running_average
        if given is None or given or statistics.mask is None:
            names = merge_names(self.axis_name, statistics.axis_names)
            with overriding(self, axis_name=names or None):
                return super().__call__(x, use_running_average, mask=mask)
        found: list[Any] = []

        def promote(values: tuple, **options: Any) -> tuple:
            """Replace the running statistics, in full precision."""
            x, _, _, scale, bias = promote_dtype(values, **options)
            found.extend(pool_rows(self, x, statistics, mask))
            return (x, *found, scale, bias)

        promote_dtype = self.promote_dtype
        with overriding(self, promote_dtype=promote):
            output = super().__call__(x, True)
        for variable, new in zip((self.mean, self.var), found, strict=True):
            variable[...] = update_running(self, variable[...], new)
        return output


@functools.cache
def _given_kind(kind: type) -> type:
    """Return a subclass whose normalization is given its statistics, also below user classes."""
    bases = (_GivenStatistics,) if kind is nnx.BatchNorm else (kind, _GivenStatistics)

    class BatchNorm(*bases):  # type: ignore[misc]
        """Replaces a class during a call."""

    return BatchNorm
