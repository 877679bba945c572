"""Runs a layer over time: the one core of the Linen and the NNX wrapper."""

from __future__ import annotations

import contextvars
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.call import Call, trace, trace_along
from tdjax.core.errors import StrategyError
from tdjax.core.symbolic_sizes import is_symbolic
from tdjax.function import no_steps
from tdjax.independence import prove
from tdjax.layers.choose_way import check_state, choose_ways
from tdjax.layers.effects import Effects, find_effects
from tdjax.layers.in_order import run_in_order
from tdjax.layers.layer import Layer
from tdjax.layers.layer_call import EACH, EQUAL, ROWS, SCALARS, Job, Way, bind_arguments, time_axis
from tdjax.layers.noise.folded_keys import check_draws, draws
from tdjax.layers.on_mesh import in_blocks
from tdjax.layers.options import Options
from tdjax.layers.scalars import report_scalars
from tdjax.strategies import Vmap
from tdjax.strategies.rows.padding import real_steps

_outputs_alone: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "tdjax_outputs_alone", default=False
)


def run_layer(
    layer: Layer,
    options: Options,
    args: tuple,
    kwargs: dict[str, Any],
    mask: Any = None,
    seq_lengths: Any = None,
) -> tuple[Any, dict[str, Any]]:
    """Call a layer on every step.

    Returns:
        The output, steps stacked, and the new value of every variable that was written.

    Raises:
        ValueError, TypeError: arguments that do not fit.
        StrategyError: the strategy cannot keep the meaning for this layer.
    """
    if _outputs_alone.get():
        return run_outputs(layer, options, args, kwargs, mask, seq_lengths), {}
    bound = bind_arguments(layer.title, layer.function, options, args, mask, seq_lengths)
    with time_axis() as axis_name:
        job = Job(layer, options, args, kwargs, bound, axis_name)
        if not is_symbolic(bound.time) and bound.time == 0:
            return _no_time(job)
        return in_blocks(job, _run_steps, _merge)


def _run_steps(job: Job) -> tuple[Any, dict[str, Any]]:
    """Return the output, and what was written, in groups."""
    effects = _effects(job)
    if check_state(job, effects):
        assert effects is not None
        return run_in_order(job, effects)
    *others, last = choose_ways(job, effects)
    for way in others:
        try:
            return _run(job, way, effects)
        except StrategyError:
            continue
    try:
        return _run(job, last, effects)
    except StrategyError as error:
        names = _mixing(job, last)
        if not names:
            raise
        raise StrategyError(
            f"{error} The output alone could be folded: rows meet in what {job.layer.title} sows, "
            f"{', '.join(names)}; a collection that is not mutable is not collected."
        ) from None


def run_outputs(
    layer: Layer,
    options: Options,
    args: tuple,
    kwargs: dict[str, Any],
    mask: Any = None,
    seq_lengths: Any = None,
) -> Any:
    """Call a layer on every step for its output alone, with one trace, whatever it writes.

    That holds for wrappers inside it, too: what they would write goes nowhere.
    """
    options = dataclasses.replace(options, strategy=Vmap())
    bound = bind_arguments(layer.title, layer.function, options, args, mask, seq_lengths)
    with time_axis() as axis_name:
        job = Job(layer, options, args, kwargs, bound, axis_name)
        if not is_symbolic(bound.time) and bound.time == 0:
            return _no_time(job)[0]
        token = _outputs_alone.set(True)
        try:
            return in_blocks(job, _drop_writes, _merge)[0]
        finally:
            _outputs_alone.reset(token)


def _drop_writes(job: Job) -> tuple[Any, dict[str, Any]]:
    way = _first_look(job)
    call = job.call(way)
    groups: dict[str, dict] = {EQUAL: {}, EACH: {}, ROWS: {}, SCALARS: {}}
    alone = dataclasses.replace(call, step=lambda leaves: (call.step(leaves)[0], groups))
    return way.strategy.run(alone)


def _mixing(job: Job, way: Way) -> list[str]:
    """Return which sown values stand in the way of a fold; none if it is the output itself."""
    if not way.strategy.folds or way.pooled or job.bound.batch is None:
        return []
    call = job.call(way)

    def proven(name: str | None) -> bool:
        def step(leaves: list[Any]) -> Any:
            output, groups = call.step(leaves)
            return {**groups[ROWS], **groups[SCALARS]}[name] if name else output

        alone = dataclasses.replace(call, step=step, out_axes=None, traced=None)
        return prove(alone, call.batch * 2 + 1).proof.independent

    program = trace(call, call.batch)
    _, groups = jax.tree.unflatten(program.out_tree, program.out_avals)
    sown = [*groups[ROWS], *groups[SCALARS]]
    return [name for name in sown if not proven(name)] if sown and proven(None) else []


def _no_time(job: Job) -> tuple[Any, dict[str, Any]]:
    """No step writes any state; what is sown is empty."""
    call = job.call(Way(Vmap()))
    step = call.step

    def without_state(leaves: list[Any]) -> Any:
        output, groups = step(leaves)
        return output, {**groups, EQUAL: {}, EACH: {}}

    output, groups = no_steps(dataclasses.replace(call, step=without_state))
    return output, _merge(job, groups)


def _effects(job: Job) -> Effects | None:
    """Trace one step if the layer could write something that matters, or draw noise for a fold."""
    options = job.options
    if not job.layer.may_write and not (options.pooled is True and job.layer.keys):
        return None
    return find_effects(job.call(_first_look(job)), job.axis_name)


def _first_look(job: Job) -> Way:
    """Return the way in which a step is traced to see what it writes."""
    return Way(Vmap(), axis_name=None if job.options.pooled is False else job.axis_name)


def _run(job: Job, way: Way, effects: Effects | None) -> tuple[Any, dict[str, Any]]:
    call = job.call(way)
    if effects is not None and _same_step(way, _first_look(job), effects):
        call = dataclasses.replace(call, traced=effects.program)
    if way.one_batch and effects is not None:
        call = _as_one_batch(job, call, effects)
    return way.strategy.run(call)


def _same_step(way: Way, seen: Way, effects: Effects) -> bool:
    """Say whether a step that runs this way is, to the letter, the one that has been traced."""
    if way.masked or way.one_batch or way.each != seen.each:
        return False
    return way.axis_name == seen.axis_name or not effects.along_time


def _as_one_batch(job: Job, call: Call, effects: Effects) -> Call:
    """Return the call of all steps as one batch, traced, with what a batch cannot say refused."""
    batch, rows = job.bound.batch, job.bound.batch * job.bound.time
    program, closed = trace_along(call, rows, None)
    if job.layer.keys:
        check_draws(job.layer.title, effects.noise, list(draws(closed.jaxpr)), batch, rows)
    _, groups = jax.tree.unflatten(program.out_tree, program.out_avals)
    whole = [*groups[SCALARS], *(n for n, v in groups[ROWS].items() if v.shape[0] != rows)]
    if whole:
        raise StrategyError(
            f"{job.layer.title} sows {', '.join(whole)}, one value for all rows of a step, and "
            f'sees all steps as one batch here. Use strategy="vmap".'
        )
    return dataclasses.replace(call, filled=True, traced=program)


def _merge(job: Job, groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return one new value for each variable, from what the steps have written."""
    layer = job.layer
    merged = {**groups[EQUAL], **groups[ROWS], **groups[SCALARS]}
    for group, axis in ((ROWS, 1), (SCALARS, 0)):
        for name, value in groups[group].items():
            if layer.summed(name):
                total = value.sum(axis)
                merged[name] = total if job.block is None else job.block.summed(total)
    report_scalars(layer, {name: merged[name] for name in groups[SCALARS]})
    for name, value in groups[EACH].items():
        merged[name] = _mean_over_steps(value, job)
    if job.mask is not None:
        any_real = job.mask.any()
        if job.block is not None:
            any_real = job.block.anywhere(any_real, job.block.where.names)
        for name in merged:
            if layer.role(name) == "statistic" and name in layer.variables:
                merged[name] = jnp.where(any_real, merged[name], layer.variables[name])
    return merged


def _mean_over_steps(values: Any, job: Job) -> Any:
    """Return the mean over the leading axis, over steps with any real row if there is a mask."""
    block = job.block
    if job.mask is None:
        mean = values.mean(0)
        return mean if block is None else block.summed(mean) / block.where.time_blocks
    steps = real_steps(job.mask).any(axis=0)
    if block is not None:
        steps = block.anywhere(steps, block.where.batch)
    real = steps.reshape([-1] + [1] * (values.ndim - 1))
    total, count = jnp.where(real, values, 0).sum(0), steps.sum()
    if block is not None:
        total, count = block.summed(total), block.summed(count)
    return total / jnp.maximum(count, 1)
