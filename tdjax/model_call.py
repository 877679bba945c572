"""A call of a function or of a Flax model, as a pure function of the arrays that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from tdjax.core.arrays import is_array
from tdjax.flax_guard import is_linen, is_nnx
from tdjax.transform import TimeDistributed, time_distributed

# What `.apply` takes beside the arguments of the module.
_OF_APPLY = ("rngs", "mutable", "method", "capture_intermediates")


def is_wrapper(fun: Any) -> bool:
    """Say whether it is distributed over time itself."""
    if is_linen(fun):
        from tdjax import linen

        return isinstance(fun, linen.TimeDistributed)
    if is_nnx(fun):
        from tdjax import nnx

        return isinstance(fun, nnx.TimeDistributed)
    return isinstance(fun, TimeDistributed)


def pure_call(
    fun: Any, args: tuple[Any, ...], kwargs: dict[str, Any], as_step: bool = False
) -> tuple[Callable[[list[Any]], Any], list[Any]]:
    """Return a function of arrays that calls `fun`, and the arrays or descriptions of them.

    Args:
        fun: a function, a Flax module, or a method of an NNX module.
        args: what it is called with; of a Linen module, its variables may come first.
        kwargs: its keyword arguments; arrays, or descriptions of them.
        as_step: call it on every step.
    """
    owner = _owner(fun)
    if is_linen(fun):
        call, args = _of_linen(fun, args, kwargs, as_step)
    elif owner is not None:
        call, args = _of_nnx(fun, owner, args, as_step)
    else:
        distributed = time_distributed(fun) if as_step else fun

        def call(options: dict[str, Any], *given: Any) -> Any:
            return distributed(*given, **options)

    # Arrays among options stay values: how much of a mask is real counts.
    described = {name: value for name, value in kwargs.items() if _is_description(value)}
    leaves, structure = jax.tree.flatten((args, described))
    where = [index for index, leaf in enumerate(leaves) if is_array(leaf) or _is_description(leaf)]

    def function(arrays: list[Any]) -> Any:
        given = list(leaves)
        for index, array in zip(where, arrays, strict=True):
            given[index] = array
        filled, options = jax.tree.unflatten(structure, given)
        for arg, original in zip(filled, args, strict=True):
            if arg is not original:  # a copy
                _name_paths(arg)
        return call({**kwargs, **options}, *filled)

    return function, [leaves[index] for index in where]


def _of_linen(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], as_step: bool
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    from tdjax import linen

    model = time_distributed(module) if as_step else module
    if args and _are_variables(args[0]):
        if as_step:
            args = (linen.wrapper_variables(args[0]), *args[1:])
    else:
        own = {name: value for name, value in kwargs.items() if name not in _OF_APPLY}

        def initialize(*given: Any, **options: Any) -> Any:
            key = jax.random.key(0)
            rngs = {"params": key, "dropout": key, **kwargs.get("rngs", {})}
            return model.init(rngs, *given, **options)

        function, arrays = pure_call(initialize, args, own)
        variables = dict(jax.eval_shape(function, arrays))
        variables.pop("intermediates", None)
        args = (variables, *args)

    def call(options: dict[str, Any], variables: Any, *given: Any) -> Any:
        rngs = {"dropout": jax.random.key(0)}
        mutable = [name for name in variables if name != "params"]
        return model.apply(variables, *given, **{"rngs": rngs, "mutable": mutable, **options})

    return call, args


def _are_variables(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(tree, Mapping) for tree in value.values())


def _is_description(value: Any) -> bool:
    return isinstance(value, jax.ShapeDtypeStruct)


def _name_paths(value: Any) -> None:
    if is_nnx(value):
        from tdjax import nnx

        nnx.name_paths(value)


def _owner(fun: Any) -> Any:
    """Return the NNX module that a call writes to; None if it is none's."""
    method = fun.__wrapped__ if isinstance(fun, TimeDistributed) else fun
    if inspect.ismethod(method):
        method = method.__self__
    return method if is_nnx(method) else None


def _of_nnx(
    fun: Any, owner: Any, args: tuple[Any, ...], as_step: bool
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    from flax import nnx

    graph, state = nnx.split(owner)

    def call(options: dict[str, Any], state: Any, *given: Any) -> Any:
        module = nnx.merge(graph, state)
        _name_paths(module)
        rebound: Any = module
        if isinstance(fun, TimeDistributed):
            method: Any = fun.__wrapped__
            rebound = type(fun)(method.__func__.__get__(module), fun.options)
        elif inspect.ismethod(fun):
            rebound = fun.__func__.__get__(module)
        own = {
            name: nnx.clone(value) if isinstance(value, nnx.Pytree) else value
            for name, value in options.items()
        }
        return (time_distributed(rebound) if as_step else rebound)(*given, **own)

    return call, (state, *args)
