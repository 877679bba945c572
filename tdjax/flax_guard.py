"""Refuses steps that reach into a Flax module in use, without importing Flax.

A transform of JAX that runs over a module which holds variables of another trace leaks tracers, or
gives all steps the same noise.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any


def _loaded(name: str, attribute: str) -> Any:
    """Return a class of a package if the package is in use, else an empty tuple."""
    return getattr(sys.modules.get(name), attribute, ())


def linen_module() -> Any:
    return _loaded("flax.linen", "Module")


def nnx_module() -> Any:
    return _loaded("flax.nnx", "Module")


@contextlib.contextmanager
def no_module_in_use(fun: Callable[..., Any]) -> Iterator[None]:
    """Refuse calls of Linen modules that were bound outside the steps of `fun`.

    A module can be reached in ways that no look at `fun` reveals: a function it calls, a list, or
    `nn.Dense(3)` written inside a function that is itself inside a compact method.

    Raises:
        TypeError: the function closes over such a module, or calls one, and it has variables or
            noise that the steps could reach.
    """
    linen = linen_module()
    if not linen:
        yield
        return
    _check_closure(fun, linen)
    import flax.linen as nn
    from flax.core.tracers import current_trace

    outside = current_trace()

    def intercept(call: Any, args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
        scope = context.module.scope
        if scope is not None and scope.root.trace_level == outside:
            _check_in_use(fun, context.module)
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield


def _check_closure(fun: Callable[..., Any], linen: Any) -> None:
    for value in _reachable(fun):
        if not isinstance(value, linen) or value.scope is None:
            continue
        _check_in_use(fun, value)


def _check_in_use(fun: Callable[..., Any], module: Any) -> None:
    if module.scope.mutable not in (False, None) or module.scope.rngs:
        raise TypeError(
            f"{_name(fun)} closes over {type(module).__name__}, a module that is being run: its "
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


def _name(fun: Any) -> str:
    return getattr(fun, "__qualname__", None) or repr(fun)
