"""Flax modules as subjects: wrapped for each strategy, differentiated by their parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax

from tdjax.comparison.subjects.partitioned import apart
from tdjax.flax_guard import linen_module, nnx_module

# `run(strategy, given, keywords, rest)` gives the outputs and the leaves of the state that it
# wrote; with it come those three trees, of which the first is differentiated.
Prepared = tuple[Callable[..., Any], tuple[Any, ...]]


def is_module(fun: Any) -> bool:
    """Say whether it is a Linen or an NNX module."""
    return isinstance(fun, (linen_module(), nnx_module()))


def prepare(
    layer: Any, args: tuple[Any, ...], call_with: dict[str, Any], options: dict[str, Any]
) -> Prepared:
    """Return how a module is run, and on what.

    Args:
        layer: a Linen module, which is initialized here, or an NNX module; either may be wrapped
            in `TimeDistributed`.
        args: what it is called with.
        call_with: its keyword arguments.
        options: of `TimeDistributed`, but for the strategy.
    """
    make = _linen if isinstance(layer, linen_module()) else _nnx
    return make(layer, args, call_with, options)


def _linen(
    layer: Any, args: tuple[Any, ...], call_with: dict[str, Any], options: dict[str, Any]
) -> Prepared:
    from tdjax.linen import TimeDistributed

    rngs = {name: jax.random.key(index) for index, name in enumerate(("params", "dropout"))}

    def wrapped(strategy: Any) -> Any:
        chosen = apart(strategy, options)
        if isinstance(layer, TimeDistributed):
            return layer.clone(strategy=chosen["strategy"], partition=chosen["partition"])
        return TimeDistributed(layer, **chosen)

    variables = dict(wrapped("vmap").init(rngs, *args, **call_with))
    params = variables.pop("params", {})
    variables.pop("intermediates", None)

    def run(strategy: Any, given: Any, keywords: Any, rest: Any) -> tuple[Any, Any]:
        weights, inputs = given
        others, keys = rest
        answer, updated = wrapped(strategy).apply(
            {"params": weights, **others},
            *inputs,
            **keywords,
            rngs=keys,
            mutable=list(others),
        )
        return answer, _changed(updated, others)

    return run, ((params, args), call_with, (variables, {"dropout": rngs["dropout"]}))


def _nnx(
    layer: Any, args: tuple[Any, ...], call_with: dict[str, Any], options: dict[str, Any]
) -> Prepared:
    from flax import nnx

    from tdjax.nnx import TimeDistributed

    def wrapped(module: Any, strategy: Any) -> Any:
        chosen = apart(strategy, options)
        if not isinstance(module, TimeDistributed):
            return TimeDistributed(module, **chosen)
        own = {name: chosen[name] for name in ("strategy", "partition")}
        module.options = nnx.static(replace(module.options, **own))
        return module

    parts: Any = nnx.split(layer, nnx.Param, ...)
    graph, params, others = parts

    def run(strategy: Any, given: Any, keywords: Any, rest: Any) -> tuple[Any, Any]:
        weights, inputs = given
        copy = nnx.merge(graph, weights, rest)
        answer = wrapped(copy, strategy)(*inputs, **keywords)
        updated: Any = nnx.split(copy, nnx.Param, ...)
        return answer, _changed(updated[2], rest)

    return run, ((params, args), call_with, others)


def _changed(updated: Any, before: Any) -> list[Any]:
    """Return the leaves that a call wrote; those it left alone are the arguments' own."""
    old = {id(leaf) for leaf in jax.tree.leaves(before)}
    return [leaf for leaf in jax.tree.leaves(updated) if id(leaf) not in old]
