"""Sends Flax modules to their wrappers, without importing Flax for those who do not use it.

A transform of JAX that runs over a module which holds variables of another trace leaks tracers, or
gives all steps the same noise. Modules and their methods are therefore lifted.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tdjax.flax_guard import linen_module, nnx_module
from tdjax.function import TimeOptions


def wrap_module(fun: Any, options: TimeOptions) -> Any:
    """Return the Flax wrapper if `fun` is a Flax module, or a method of an NNX module; else None.

    Raises:
        TypeError: a class, a module bound with `.bind()`, or settings that a module cannot have.
    """
    linen, nnx = linen_module(), nnx_module()
    is_class = inspect.isclass(fun)
    if isinstance(fun, linen) or (is_class and linen and issubclass(fun, linen)):
        from tdjax import linen as wrappers

        return wrappers.wrap(fun, _settings(fun, options))
    owner = fun.__self__ if inspect.ismethod(fun) else fun
    if isinstance(owner, nnx) or (is_class and nnx and issubclass(fun, nnx)):
        from tdjax import nnx as nnx_wrappers

        return nnx_wrappers.TimeDistributed(fun, **_settings(fun, options))
    return None


def _settings(fun: Any, options: TimeOptions) -> dict[str, Any]:
    for name in ("axis_name", "axis_size"):
        if getattr(options, name) is not None:
            raise TypeError(
                f"{name} is {getattr(options, name)!r}, which has no meaning for a Flax module "
                f"({type(fun).__name__}): leave it out. Batch normalisation finds the time axis by "
                f"itself in tdjax.linen.TimeDistributed and tdjax.nnx.TimeDistributed."
            )
    names = ("in_axes", "out_axes", "strategy", "masked_output", "partition")
    pooled = True if options.pooled else None
    return {**{name: getattr(options, name) for name in names}, "pooled": pooled}


def lift_method(fun: Callable[..., Any], args: tuple, options: TimeOptions) -> Any:
    """Return a call to make instead, if `fun` is a method of a module that is being run.

    Linen calls a decorated method with the module as first argument; a method taken from a module,
    as a decorated one of an NNX module is, has it as `__self__`.
    """
    if inspect.ismethod(fun) and isinstance(fun.__self__, nnx_module()):
        from tdjax import nnx as nnx_wrappers

        settings = _settings(fun, options)
        return functools.partial(
            nnx_wrappers.call_method, fun.__self__, fun.__func__, settings, args
        )
    linen = linen_module()
    if not linen:
        return None
    module, function = None, fun
    if inspect.ismethod(fun) and isinstance(fun.__self__, linen):
        module, function = fun.__self__, fun.__func__
    elif args and isinstance(args[0], linen) and args[0].scope is not None:
        module, *rest = args
        args = tuple(rest)
    if module is None or module.scope is None:  # `module.apply` is pure, and takes its variables
        return None
    from tdjax import linen as wrappers

    return functools.partial(wrappers.call_method, module, function, _settings(fun, options), args)
