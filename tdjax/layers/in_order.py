"""Runs the steps in order, each with the state that the one before it wrote."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.axes import normalize_out_axis
from tdjax.core.errors import StrategyError, describe
from tdjax.core.jaxpr import stand_in
from tdjax.core.shared import joined, split
from tdjax.independence import Rows
from tdjax.layers.choose_way import check_statistics_on_mesh, written
from tdjax.layers.effects import Effects
from tdjax.layers.layer_call import EACH, EQUAL, ROWS, SCALARS, LayerCall, Way
from tdjax.strategies import Decision, Vmap, tell_of
from tdjax.strategies.base import InOrder
from tdjax.strategies.rows.checks import reporting_checks
from tdjax.strategies.rows.padding import real_steps, zero
from tdjax.strategies.rows.recomputing import recomputing


def run_in_order(call: LayerCall, effects: Effects) -> tuple[Any, dict[str, Any]]:
    """Return the output, and what was written in groups, as steps return them."""
    loop = _in_order(call)
    each = bool(written(call, effects, "statistic"))
    if each and call.options.pooled is not False:
        raise StrategyError(
            f"{call.layer.title} updates batch statistics over batch and time, which needs all "
            f'steps at once, and state="carry" runs them one after the other. Use pooled=False for '
            f"the statistics of each step."
        )
    if each:
        check_statistics_on_mesh(call, effects, [])
    bound = call.bind_step(Way(Vmap(), each=each, masked=each and call.mask is not None))
    one_by_one = Vmap(chunk_size=1, unroll=loop.unroll != 1 and loop.unroll, remat=loop.remat)
    tell_of(Decision(bound, one_by_one, 'Its steps run in order (state="carry").'))
    where = {
        name: index
        for index, name in enumerate(call.layer.array_names)  # the first leaves are variables
        if name in effects.written and call.layer.role(name) == "state"
    }
    times = {index: axis for index, axis in enumerate(bound.axes) if axis is not None}
    xs = [jnp.moveaxis(bound.leaves[index], axis, 0) for index, axis in times.items()]
    given = {*where.values(), *times}
    shared = [leaf if i in given else split(leaf) for i, leaf in enumerate(bound.leaves)]

    def body(state: dict[str, Any], steps: list[Any]) -> tuple[dict[str, Any], Any]:
        leaves = joined(shared)
        for index, value in zip(times, steps, strict=True):
            leaves[index] = value
        for name, value in state.items():
            leaves[where[name]] = value
        output, groups = bound.step(leaves)
        equal = groups[EQUAL]
        after = {name: equal.get(name, state[name]) for name in state}
        rest = {name: value for name, value in equal.items() if name not in state}
        return after, (output, {**groups, EQUAL: rest})

    body = stand_in(body, bound.step, ("state", "steps"))
    if loop.remat:
        body = recomputing(body, prevent_cse=False)
    first = {name: _initial_state(call, effects, name) for name in where}
    scan = functools.partial(jax.lax.scan, body, unroll=loop.unroll)
    with jax.named_scope("tdjax.carry"):
        last, (outputs, groups) = reporting_checks(effects.program, scan)(first, xs)
    output = _stack_outputs(call, outputs)
    moved = {
        group: {name: jnp.moveaxis(v, 0, axis) for name, v in groups[group].items()}
        for group, axis in ((EACH, 0), (ROWS, 1), (SCALARS, 0))
    }
    rest = {name: value[-1] for name, value in groups[EQUAL].items()}
    return output, {**moved, EQUAL: {**rest, **last}}


def _in_order(call: LayerCall) -> InOrder:
    strategy = call.options.strategy
    loop = strategy.in_order()
    if loop is None:
        raise StrategyError(
            f'{call.layer.title} has state="carry", which runs one step after the other, and '
            f"strategy={str(strategy)!r} runs several at once. "
            f'Use strategy="map", "unroll" or "auto".'
        )
    return loop


def _initial_state(call: LayerCall, effects: Effects, name: str) -> Any:
    value, after = call.layer.variables[name], effects.shapes[name]
    if tuple(value.shape) != tuple(after.shape):
        raise ValueError(
            f"{call.layer.title} turns {name} from {describe(value)} into "
            f"{after.dtype}{list(after.shape)}; state that is carried from step to step must keep "
            f"its shape."
        )
    return jnp.asarray(value, after.dtype)


def _stack_outputs(call: LayerCall, outputs: Any) -> Any:
    """Return outputs whose time leads with time where `out_axes` says, masked steps set to 0."""
    leaves, tree = jax.tree.flatten(outputs)
    axes = call.output_axes(outputs)
    zeroed = call.mask is not None and call.options.masked_output == "zero"
    placed = []
    for leaf, axis in zip(leaves, axes, strict=True):
        where = normalize_out_axis(axis, leaf.ndim - 1, "the output")
        rows = Rows(0) if leaf.ndim > 1 and leaf.shape[1] == call.bound.batch else None
        value = leaf[-1] if where is None else jnp.moveaxis(leaf, 0, where)
        placed.append(zero(value, where, rows, real_steps(call.mask)) if zeroed else value)
    return jax.tree.unflatten(tree, placed)
