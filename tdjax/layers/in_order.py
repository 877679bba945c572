"""Runs the steps in order, each with the state that the one before has left."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.axes import broadcast_axes, is_array, normalize_out_axis
from tdjax.core.errors import StrategyError, describe
from tdjax.independence import Rows
from tdjax.layers.choose_way import check_spread, written
from tdjax.layers.effects import Effects
from tdjax.layers.layer_call import EQUAL, Job, Way
from tdjax.strategies import Vmap
from tdjax.strategies.base import InOrder
from tdjax.strategies.rows.padding import real_steps, zero


def run_in_order(job: Job, effects: Effects) -> tuple[Any, dict[str, Any]]:
    """Return the output, and what was written in groups, as the steps give them."""
    loop = _in_order(job)
    each = bool(written(job, effects, "statistic"))
    if each and job.options.pooled is not False:
        raise StrategyError(
            f"{job.layer.title} updates batch statistics over batch and time, which needs all "
            f'steps at once, and state="carry" runs them one after the other. Use pooled=False for '
            f"the statistics of each step."
        )
    if each:
        check_spread(job, effects, [])
    call = job.call(Way(Vmap(), each=each, masked=each and job.mask is not None))
    arrays = sorted(name for name, value in job.layer.variables.items() if is_array(value))
    where = {
        name: index
        for index, name in enumerate(arrays)  # variables come first among the leaves of the call
        if name in effects.written and job.layer.role(name) == "state"
    }
    times = {index: axis for index, axis in enumerate(call.axes) if axis is not None}
    xs = [jnp.moveaxis(call.leaves[index], axis, 0) for index, axis in times.items()]

    def body(state: dict[str, Any], steps: list[Any]) -> tuple[dict[str, Any], Any]:
        leaves = list(call.leaves)
        for index, value in zip(times, steps, strict=True):
            leaves[index] = value
        for name, value in state.items():
            leaves[where[name]] = value
        output, groups = call.step(leaves)
        equal = groups[EQUAL]
        after = {name: equal.get(name, state[name]) for name in state}
        rest = {name: value for name, value in equal.items() if name not in state}
        return after, (output, {**groups, EQUAL: rest})

    if loop.remat:
        body = jax.checkpoint(body, prevent_cse=False)
    first = {name: _initial(job, effects, name) for name in where}
    with jax.named_scope("tdjax.carry"):
        last, (outputs, groups) = jax.lax.scan(body, first, xs, unroll=loop.unroll)
    output = _stacked(job, outputs)
    moved = {
        group: {name: jnp.moveaxis(v, 0, axis) for name, v in groups[group].items()}
        for group, axis in (("each", 0), ("rows", 1), ("scalars", 0))
    }
    rest = {name: value[-1] for name, value in groups[EQUAL].items()}
    return output, {**moved, EQUAL: {**rest, **last}}


def _in_order(job: Job) -> InOrder:
    strategy = job.options.strategy
    loop = strategy.in_order()
    if loop is None:
        raise StrategyError(
            f'{job.layer.title} has state="carry", which runs one step after the other, and '
            f"strategy={str(strategy)!r} runs several at once. "
            f'Use strategy="map", "unroll" or "auto".'
        )
    return loop


def _initial(job: Job, effects: Effects, name: str) -> Any:
    value, after = job.layer.variables[name], effects.shapes[name]
    if tuple(value.shape) != tuple(after.shape):
        raise ValueError(
            f"{job.layer.title} turns {name} from {describe(value)} into "
            f"{after.dtype}{list(after.shape)}; state that is carried from step to step must keep "
            f"its shape."
        )
    return jnp.asarray(value, after.dtype)


def _stacked(job: Job, outputs: Any) -> Any:
    """Return the outputs, time leading, with time where it belongs and masked steps zeroed."""
    leaves, tree = jax.tree.flatten(outputs)
    axes = broadcast_axes("out_axes", job.options.out_axes, outputs)
    zeroed = job.mask is not None and job.options.masked_output == "zero"
    placed = []
    for leaf, axis in zip(leaves, axes, strict=True):
        where = normalize_out_axis(axis, leaf.ndim - 1, "the output")
        rows = Rows(0) if leaf.ndim > 1 and leaf.shape[1] == job.bound.batch else None
        value = leaf[-1] if where is None else jnp.moveaxis(leaf, 0, where)
        placed.append(zero(value, where, rows, real_steps(job.mask)) if zeroed else value)
    return jax.tree.unflatten(tree, placed)
