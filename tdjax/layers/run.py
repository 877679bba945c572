"""Runs a layer over time: the shared core of the Linen and the NNX wrapper."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.arrays import is_symbolic
from tdjax.core.call import Call, trace, trace_along
from tdjax.core.errors import StrategyError
from tdjax.function import no_steps
from tdjax.independence import prove
from tdjax.layers.choose_way import choose_ways, runs_in_order
from tdjax.layers.effects import Effects, find_effects
from tdjax.layers.in_order import run_in_order
from tdjax.layers.layer import Layer
from tdjax.layers.layer_call import EACH, EQUAL, ROWS, SCALARS, LayerCall, Way, bind_arguments
from tdjax.layers.nesting import dropping_writes, drops_writes, report_scalars, within_wrapper
from tdjax.layers.noise import check_draws
from tdjax.layers.on_mesh import run_on_mesh
from tdjax.layers.options import Arguments, Options
from tdjax.partition.noise import draws
from tdjax.strategies import Vmap, run_as_asked
from tdjax.strategies.rows.padding import real_steps


def run_layer(layer: Layer, options: Options, given: Arguments) -> tuple[Any, dict[str, Any]]:
    """Call a layer on every step.

    Returns:
        The output, steps stacked, and the new value of every variable that was written.

    Raises:
        ValueError, TypeError: arguments that do not fit.
        StrategyError: the strategy cannot keep the meaning for this layer.
    """
    if drops_writes():
        return run_outputs(layer, options, given), {}
    return _run(layer, options, given, _run_steps)


def run_outputs(layer: Layer, options: Options, given: Arguments) -> Any:
    """Call a layer on every step for its output only, in one trace, and drop what it writes."""
    options = dataclasses.replace(options, strategy=Vmap())
    with dropping_writes():
        return _run(layer, options, given, _drop_writes)[0]


def _run(
    layer: Layer, options: Options, given: Arguments, run: Callable[..., Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the output and the new variables, computed by `run` if there are any steps."""
    bound = bind_arguments(layer, options, given.args, given.mask, given.seq_lengths)
    with within_wrapper() as around:
        call = LayerCall(layer, options, given.args, given.kwargs, bound, around.axis_name)
        if not is_symbolic(bound.time) and bound.time == 0:
            return _no_time(call)
        return run_on_mesh(call, run, _merge)


def _run_steps(call: LayerCall) -> tuple[Any, dict[str, Any]]:
    """Return the output, and what was written, in groups."""
    effects = _effects(call)
    if runs_in_order(call, effects):
        assert effects is not None
        return run_in_order(call, effects)
    *others, last = choose_ways(call, effects)
    for way in others:
        try:
            return _run_way(call, way, effects)
        except StrategyError:
            continue
    try:
        return _run_way(call, last, effects)
    except StrategyError as error:
        names = _mixing(call, last)
        if not names:
            raise
        raise StrategyError(
            f"{error} The output itself could be folded: rows depend on each other in what "
            f"{call.layer.title} sows, {', '.join(names)}; a collection that is not mutable is not "
            f"collected."
        ) from None


def _drop_writes(call: LayerCall) -> tuple[Any, dict[str, Any]]:
    way = _tracing_way(call)
    bound = call.bind_step(way)
    groups: dict[str, dict] = {EQUAL: {}, EACH: {}, ROWS: {}, SCALARS: {}}
    return way.strategy.run(bound.replace(step=lambda leaves: (bound.step(leaves)[0], groups)))


def _mixing(job: LayerCall, way: Way) -> list[str]:
    """Return which sown values prevent a fold; none if the output itself does."""
    if not way.strategy.folds or way.pooled or job.bound.batch is None:
        return []
    call = job.bind_step(way)

    def proven(name: str | None) -> bool:
        def step(leaves: list[Any]) -> Any:
            output, groups = call.step(leaves)
            return {**groups[ROWS], **groups[SCALARS]}[name] if name else output

        alone = call.replace(step=step, out_axes=None, traced=None)
        return prove(alone, call.batch * 2 + 1).proof.independent

    program = trace(call, call.batch)
    _, groups = jax.tree.unflatten(program.out_tree, program.out_avals)
    sown = [*groups[ROWS], *groups[SCALARS]]
    return [name for name in sown if not proven(name)] if sown and proven(None) else []


def _no_time(call: LayerCall) -> tuple[Any, dict[str, Any]]:
    """Return empty outputs and empty sown values; without steps, no state is written."""
    bound = call.bind_step(Way(Vmap()))

    def without_state(leaves: list[Any]) -> Any:
        output, groups = bound.step(leaves)
        return output, {**groups, EQUAL: {}, EACH: {}}

    output, groups = no_steps(bound.replace(step=without_state))
    return output, _merge(call, groups)


def _effects(call: LayerCall) -> Effects | None:
    """Trace one step if the layer could write something that matters, or draw noise for a fold."""
    if not call.layer.may_write and not (call.options.pooled is True and call.layer.keys):
        return None
    return find_effects(call.bind_step(_tracing_way(call)), call.axis_name)


def _tracing_way(call: LayerCall) -> Way:
    """Return the way in which a step is traced to see what it writes."""
    return Way(Vmap(), axis_name=None if call.options.pooled is False else call.axis_name)


def _run_way(call: LayerCall, way: Way, effects: Effects | None) -> tuple[Any, dict[str, Any]]:
    bound = call.bind_step(way)
    if effects is not None and _same_step(way, _tracing_way(call), effects):
        bound = bound.replace(traced=effects.program)
    if way.one_batch and effects is not None:
        bound = _as_one_batch(call, bound, effects)
    return run_as_asked(way.strategy, bound, way.reason)


def _same_step(way: Way, seen: Way, effects: Effects) -> bool:
    """Say whether a step that runs this way is exactly the one that was traced."""
    if way.masked or way.one_batch or way.each != seen.each:
        return False
    return way.axis_name == seen.axis_name or not effects.along_time


def _as_one_batch(call: LayerCall, bound: Call, effects: Effects) -> Call:
    """Return the call of all steps as one batch, traced, if that keeps noise and sown values."""
    batch, rows = call.bound.batch, call.bound.batch * call.bound.time
    program = trace_along(bound, rows, None)
    if call.layer.keys:
        check_draws(call.layer.title, effects.noise, draws(program.jaxpr), batch, rows)
    _, groups = jax.tree.unflatten(program.out_tree, program.out_avals)
    whole = [*groups[SCALARS], *(n for n, v in groups[ROWS].items() if v.shape[0] != rows)]
    if whole:
        raise StrategyError(
            f"{call.layer.title} sows {', '.join(whole)}, one value for all rows of a step, and "
            f'sees all steps as one batch here. Use strategy="vmap".'
        )
    return bound.replace(filled=True, traced=program)


def _merge(call: LayerCall, groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return one new value for each variable, from what the steps have written."""
    layer, part = call.layer, call.part
    merged = {**groups[EQUAL], **groups[ROWS], **groups[SCALARS]}
    for group, axis in ((ROWS, 1), (SCALARS, 0)):
        for name, value in groups[group].items():
            if layer.summed(name):
                total = value.sum(axis)
                merged[name] = total if part is None else part.sum_over_steps(total)
    report_scalars(layer, {name: merged[name] for name in groups[SCALARS]})
    for name, value in groups[EACH].items():
        merged[name] = _mean_over_steps(value, call)
    if call.mask is not None:
        any_real = call.mask.any()
        if part is not None:
            any_real = part.anywhere(any_real, part.where.names)
        for name in merged:
            if layer.role(name) == "statistic" and name in layer.variables:
                merged[name] = jnp.where(any_real, merged[name], layer.variables[name])
    return merged


def _mean_over_steps(values: Any, call: LayerCall) -> Any:
    """Return the mean over the leading axis, over steps with any real row if there is a mask.

    These are running statistics, each updated from the same r by the statistics s_t of its step:
    r_t = m r + (1 - m) s_t. Their mean is r updated by the mean of all s_t.
    """
    part = call.part
    if call.mask is None:
        mean = values.mean(0)
        return mean if part is None else part.sum_over_steps(mean) / part.where.time_blocks
    steps = real_steps(call.mask).any(axis=0)
    if part is not None:
        steps = part.anywhere(steps, part.where.batch)
    real = steps.reshape([-1] + [1] * (values.ndim - 1))
    total, count = jnp.where(real, values, 0).sum(0), steps.sum()
    if part is not None:
        total, count = part.sum_over_steps(total), part.sum_over_steps(count)
    return total / jnp.maximum(count, 1)
