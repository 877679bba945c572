"""Makes every `nn.BatchNorm` inside a call normalize with given statistics.

Its calls are intercepted by `nn.intercept_methods`. That the original method in the context wraps
the method of the class is not public in Flax.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from tdjax.layers.batch_norm.statistics import merge_names, overriding, pool_rows, update_running
from tdjax.layers.layer import Statistics

_FIRST = {"mean": jnp.zeros_like, "var": jnp.ones_like}
_NORMALIZE = inspect.unwrap(nn.BatchNorm.__call__)


def normalizing_with(statistics: Statistics | None) -> contextlib.AbstractContextManager[Any]:
    """Make batch normalization average over named axes, count real rows only, or be frozen."""
    if statistics is None:
        return contextlib.nullcontext()

    def intercept(call: Any, args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
        # A subclass may do more around the method that it inherits; only that one is replaced.
        if not is_normalization(context):
            return call(*args, **kwargs)
        return _call(statistics, call, context.module, *args, **kwargs)

    return nn.intercept_methods(intercept)


def is_normalization(context: Any) -> bool:
    """Say whether the method that is called is that of Flax's own normalization."""
    return getattr(context.orig_method, "func", None) is _NORMALIZE


def _call(
    statistics: Statistics,
    call: Callable[..., Any],
    layer: nn.BatchNorm,
    x: Any,
    use_running_average: bool | None = None,
    *,
    mask: Any = None,
) -> Any:
    if statistics.frozen:
        with overriding(layer, use_running_average=True):
            return call(x)
    running = nn.merge_param("use_running_average", layer.use_running_average, use_running_average)
    if running or statistics.mask is None:
        names = merge_names(layer.axis_name, statistics.axis_names)
        with overriding(layer, axis_name=names or None):
            return call(x, use_running_average, mask=mask)
    found = dict(zip(_FIRST, pool_rows(layer, x, statistics, mask), strict=True))
    before = {
        name: layer.get_variable("batch_stats", name, _FIRST[name](new))
        for name, new in found.items()
    }
    for name, new in found.items():
        layer.put_variable("batch_stats", name, new)
    with overriding(layer, use_running_average=True):
        output = call(x)
    for name, new in found.items():
        layer.put_variable("batch_stats", name, update_running(layer, before[name], new))
    return output
