"""Recognizes Flax modules, and refuses steps that reach into one in use, without importing Flax.

Where a module holds variables of another trace, a transform of JAX over it leaks tracers, or gives
all steps the same noise.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import flax.linen
    import flax.nnx

StepLike: TypeAlias = "Callable[..., Any] | flax.linen.Module | flax.nnx.Module"
"""What can run at every step, for type checkers."""


def linen_module() -> Any:
    """Return the class of Linen modules, or an empty tuple if Linen has not been imported."""
    return getattr(sys.modules.get("flax.linen"), "Module", ())


def nnx_module() -> Any:
    """Return the class of NNX modules, or an empty tuple if NNX has not been imported."""
    return getattr(sys.modules.get("flax.nnx"), "Module", ())


def is_linen(value: Any) -> bool:
    """Say whether a value is a Linen module."""
    return isinstance(value, linen_module())


def is_nnx(value: Any) -> bool:
    """Say whether a value is an NNX module."""
    return isinstance(value, nnx_module())


def no_module_in_use(fun: Callable[..., Any]) -> contextlib.AbstractContextManager[Any]:
    """Refuse calls of Linen modules that were bound outside the steps of `fun`.

    Looking at `fun` is not enough: it may reach a module through a function that it calls, through
    a list, or by `nn.Dense(3)` in a function that is itself inside a compact method. So calls of
    modules are intercepted as well.

    Raises:
        TypeError: the function closes over such a module, or calls one, and it has variables or
            noise that the steps could reach.
    """
    module = linen_module()
    if not module:
        return contextlib.nullcontext()
    for value in _reachable(fun):
        if isinstance(value, module) and value.scope is not None:
            _check_in_use(fun, value)
    import flax.linen as nn
    from flax.core.tracers import current_trace

    outside = current_trace()

    def intercept(call: Any, args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
        scope = context.module.scope
        if scope is not None and scope.root.trace_level == outside:
            _check_in_use(fun, context.module)
        return call(*args, **kwargs)

    return nn.intercept_methods(intercept)


def _check_in_use(fun: Callable[..., Any], module: Any) -> None:
    if module.scope.mutable not in (False, None) or module.scope.rngs:
        name = getattr(fun, "__qualname__", None) or repr(fun)
        raise TypeError(
            f"{name} closes over {type(module).__name__}, a module that is being run: its "
            f"steps would leak tracers into it, or share one noise. Wrap the module instead, "
            f"tdjax.linen.TimeDistributed(layer)(x), or decorate a method of it with "
            f"@tdjax.time_distributed."
        )


def _reachable(fun: Any) -> Iterator[Any]:
    """Yield what a function holds on to: its closure, its defaults, the arguments of a partial."""
    while isinstance(fun, functools.partial):
        yield from fun.args
        yield from fun.keywords.values()
        fun = fun.func
    yield getattr(fun, "__self__", None)
    for cell in getattr(fun, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that has no value yet
            continue
    yield from getattr(fun, "__defaults__", None) or ()
