"""Sends Flax modules and their methods to their wrappers; Flax is not imported if it is not in use.

Where a module holds variables of another trace, a transform of JAX over it leaks tracers, or gives
all steps the same noise. The wrappers lift it as Flax's own transforms do.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

from tdjax.flax_guard import is_linen, is_nnx, linen_module, nnx_module
from tdjax.function import TimeOptions
from tdjax.layers.options import Arguments, Options


def wrap_module(fun: Any, options: TimeOptions) -> Any:
    """Return the Flax wrapper if `fun` is a Flax module, or a method of an NNX module; else None.

    Raises:
        TypeError: a class, a module bound with `.bind()`, or options that a module cannot have.
    """
    kind = fun if inspect.isclass(fun) else type(fun)
    if issubclass(kind, linen_module()):
        from tdjax import linen

        return linen.wrap(fun, _module_options(fun, options))
    if issubclass(kind, nnx_module()) or (inspect.ismethod(fun) and is_nnx(fun.__self__)):
        from tdjax import nnx

        return nnx.TimeDistributed(fun, **vars(_module_options(fun, options)))
    return None


def lift_method(fun: Any, options: TimeOptions, given: Arguments) -> Callable[[], Any] | None:
    """Return a call to make instead, if `fun` is a method of a module that is being run.

    Linen calls a decorated method with the module as first argument; a method taken from a module,
    as a decorated one of an NNX module is, has it as `__self__`.
    """
    owner: Any = fun.__self__ if inspect.ismethod(fun) else None
    if is_nnx(owner):
        from tdjax import nnx

        checked = _module_options(fun, options)
        return functools.partial(nnx.distribute, owner, fun.__func__, checked, given)
    if is_linen(owner):
        module, function = owner, fun.__func__
    elif given.args and is_linen(given.args[0]):
        module, *rest = given.args
        function, given = fun, dataclasses.replace(given, args=tuple(rest))
    else:
        return None
    if module.scope is None:  # `module.apply` is a pure function of variables
        return None
    from tdjax import linen

    return functools.partial(
        linen.distribute, module, function, _module_options(fun, options), given
    )


def _module_options(fun: Any, options: TimeOptions) -> Options:
    for name in ("axis_name", "axis_size"):
        if getattr(options, name) is not None:
            raise TypeError(
                f"{name} is {getattr(options, name)!r}, which has no meaning for a Flax module "
                f"({type(fun).__name__}): leave it out. Batch normalization finds the time axis by "
                f"itself in tdjax.linen.TimeDistributed and tdjax.nnx.TimeDistributed."
            )
    return Options(
        strategy=options.strategy,
        pooled=True if options.pooled else None,
        in_axes=options.in_axes,
        out_axes=options.out_axes,
        masked_output=options.masked_output,
        partition=options.partition,
    )
