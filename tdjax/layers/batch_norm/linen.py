"""Has every `nn.BatchNorm` inside a call normalise with statistics that it is told.

`nn.intercept_methods` hands its calls on. That what it gives as the original method wraps the one
of the class is not public in Flax.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from tdjax.layers.batch_norm.statistics import moved_on, of_real_rows, settings, with_axes
from tdjax.layers.layer import Statistics

_FIRST = {"mean": jnp.zeros_like, "var": jnp.ones_like}
_NORMALISE = inspect.unwrap(nn.BatchNorm.__call__)


@contextlib.contextmanager
def normalising_with(statistics: Statistics | None) -> Iterator[None]:
    """Have batch normalisation average over named axes, count real rows alone, or be frozen."""
    if statistics is None:
        yield
        return

    def intercept(call: Any, args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
        # A class of the user's own may do more, around what it inherits.
        if not is_normalisation(context):
            return call(*args, **kwargs)
        return _call(statistics, call, context.module, *args, **kwargs)

    with nn.intercept_methods(intercept):
        yield


def is_normalisation(context: Any) -> bool:
    """Say whether it is Flax's own normalisation that is being called."""
    return getattr(context.orig_method, "func", None) is _NORMALISE


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
        with settings(layer, use_running_average=True):
            return call(x)
    running = nn.merge_param("use_running_average", layer.use_running_average, use_running_average)
    if running or statistics.mask is None:
        names = with_axes(layer.axis_name, statistics.axis_names)
        with settings(layer, axis_name=names or None):
            return call(x, use_running_average, mask=mask)
    found = dict(zip(_FIRST, of_real_rows(layer, x, statistics, mask), strict=True))
    before = {
        name: layer.get_variable("batch_stats", name, _FIRST[name](new))
        for name, new in found.items()
    }
    for name, new in found.items():
        layer.put_variable("batch_stats", name, new)
    with settings(layer, use_running_average=True):
        output = call(x)
    for name, new in found.items():
        layer.put_variable("batch_stats", name, moved_on(layer, before[name], new))
    return output
