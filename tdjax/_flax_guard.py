"""Sends Flax modules to their wrappers, without importing Flax for those who do not use it.

A transform of JAX that runs over a module which holds variables of another trace leaks tracers, or
gives all steps the same noise. Modules and their methods are therefore lifted, and what cannot be
lifted is refused.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any


def _loaded(name: str, attribute: str) -> Any:
    """Return a class of a package if the package is in use, else an empty tuple."""
    return getattr(sys.modules.get(name), attribute, ())


def _linen_module() -> Any:
    return _loaded("flax.linen", "Module")


def _nnx_module() -> Any:
    return _loaded("flax.nnx", "Module")


def wrap_module(fun: Any, options: dict[str, Any]) -> Any:
    """Return the Flax wrapper if `fun` is a Flax module, or a method of an NNX module; else None.

    Raises:
        TypeError: a class, a module bound with `.bind()`, or settings that a module cannot have.
    """
    linen, nnx = _linen_module(), _nnx_module()
    is_class = inspect.isclass(fun)
    if isinstance(fun, linen) or (is_class and linen and issubclass(fun, linen)):
        from tdjax import linen as wrappers

        return wrappers.wrap(fun, _settings(fun, options))
    owner = fun.__self__ if inspect.ismethod(fun) else fun
    if isinstance(owner, nnx) or (is_class and nnx and issubclass(fun, nnx)):
        from tdjax import nnx as nnx_wrappers

        return nnx_wrappers.TimeDistributed(fun, **_settings(fun, options))
    return None


def _settings(fun: Any, options: dict[str, Any]) -> dict[str, Any]:
    for name in ("axis_name", "axis_size"):
        if options[name] is not None:
            raise TypeError(
                f"{name} is {options[name]!r}, which has no meaning for a Flax module "
                f"({type(fun).__name__}): leave it out. Batch normalisation finds the time axis by "
                f"itself in tdjax.linen.TimeDistributed and tdjax.nnx.TimeDistributed."
            )
    names = ("in_axes", "out_axes", "strategy", "masked_output", "partition")
    pooled = True if options["pooled"] else None
    return {**{name: options[name] for name in names}, "pooled": pooled}


def lift_method(fun: Callable[..., Any], args: tuple, options: dict[str, Any]) -> Any:
    """Return a call to make instead, if `fun` is a method of a module that is being run.

    Linen calls a decorated method with the module as first argument; a method taken from a module,
    as a decorated one of an NNX module is, has it as `__self__`.

    Raises:
        TypeError: the function closes over a module whose variables or noise it could reach.
    """
    if inspect.ismethod(fun) and isinstance(fun.__self__, _nnx_module()):
        from tdjax import nnx as nnx_wrappers

        settings = _settings(fun, options)
        return functools.partial(
            nnx_wrappers.call_method, fun.__self__, fun.__func__, settings, args
        )
    linen = _linen_module()
    if not linen:
        return None
    module, function = None, fun
    if inspect.ismethod(fun) and isinstance(fun.__self__, linen):
        module, function = fun.__self__, fun.__func__
    elif args and isinstance(args[0], linen) and args[0].scope is not None:
        module, *rest = args
        args = tuple(rest)
    if module is None or module.scope is None:  # `module.apply` is pure, and takes its variables
        _check_closure(fun, linen)
        return None
    from tdjax import linen as wrappers

    return functools.partial(wrappers.call_method, module, function, _settings(fun, options), args)


@contextlib.contextmanager
def no_module_in_use(fun: Callable[..., Any]) -> Iterator[None]:
    """Refuse calls of Linen modules that were bound outside the steps of `fun`.

    A module can be reached in ways that no look at `fun` reveals: a function it calls, a list, or
    `nn.Dense(3)` written inside a function that is itself inside a compact method.

    Raises:
        TypeError: such a module is called, and has variables or noise that the steps could reach.
    """
    if not _linen_module():
        yield
        return
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
