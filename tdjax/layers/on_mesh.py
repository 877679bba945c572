"""Runs a layer on every device's own block of batch and time.

Inside a block everything is as it is on one device, but for three things: steps have the keys of
their own number, rows their own part of the noise, and batch normalisation averages over the mesh.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec

from tdjax.core.axes import is_array
from tdjax.core.call import Call, Program
from tdjax.core.errors import StrategyError
from tdjax.independence import Proven, Rows, prove
from tdjax.layers.device_part import Block
from tdjax.layers.layer_call import EACH, EQUAL, ROWS, SCALARS, Job, Way, bind_arguments
from tdjax.partition import Cut, Placement, find_noise, in_block, place, refuse, sequence, spread
from tdjax.strategies import Vmap

Written = dict[str, dict[str, Any]]


def in_blocks(
    job: Job,
    run: Callable[[Job], tuple[Any, Written]],
    merge: Callable[[Job, Written], dict[str, Any]],
) -> tuple[Any, dict[str, Any]]:
    """Return the output, and the new value of every variable that was written.

    Args:
        job: the whole call.
        run: runs a call, or a block of one; returns the output, and what was written, in groups.
        merge: gives one new value for each variable.
    """
    where = place(job.bound, job.options.partition)
    if where is None:
        output, groups = run(job)
        return output, merge(job, groups)
    cut, block, kinds = _cut(job, where)
    arrays = {name: value for name, value in job.layer.variables.items() if is_array(value)}
    keys = job.layer.keys
    names, streams = sorted(arrays), sorted(keys)
    flat, tree = jax.tree.flatten(job.args)
    at = [index for index, leaf in enumerate(flat) if is_array(leaf)]
    operands = [*(arrays[name] for name in names), *(keys[name] for name in streams)]
    operands += [flat[index] for index in at]
    specs = [cut.spec(index) for index in range(len(names))]
    specs += [PartitionSpec()] * len(streams)
    specs += [cut.spec(len(specs) + place) for place in range(len(at))]
    if job.mask is not None:
        operands.append(job.mask)
        specs.append(where.spec(job.mask.ndim, 0, 1))

    def one(operands: list[Any]) -> tuple[Any, list[PartitionSpec]]:
        taken = iter(operands)
        variables = {**job.layer.variables, **{name: next(taken) for name in names}}
        with job.layer.holding(variables, {name: next(taken) for name in streams}):
            merged = list(flat)
            for index in at:
                merged[index] = next(taken)
            local = _local(job, jax.tree.unflatten(tree, merged), next(taken, None), block)
            output, groups = run(local)
            written = merge(local, groups)
        lying = cut.out_specs(output) + _written_specs(job, cut, groups, written, kinds)
        return (output, written), lying

    return spread(where, one, operands, specs)


def _local(job: Job, args: tuple, mask: Any, block: Block) -> Job:
    bound = bind_arguments(job.layer.title, job.layer.function, job.options, args, mask, None)
    return dataclasses.replace(job, args=args, bound=bound, block=block)


def _cut(job: Job, where: Placement) -> tuple[Cut, Block, Written]:
    """Return how to cut a call, what a block is, and where the rows are in what steps write.

    Raises:
        StrategyError: rows of different devices would have to meet, batch statistics aside.
    """
    call = job.call(Way(Vmap(), frozen=True))
    plain = dataclasses.replace(call, out_axes=job.options.out_axes)
    pooled = job.options.pooled is True
    if not where.batch and not pooled and not job.layer.may_write:
        return Cut(plain, where), Block(where), {}
    rows = job.bound.batch // where.batch_blocks
    in_order = job.options.state == "carry" and not where.time
    with in_block(where):
        proven = _in_order(job, call, rows, where) if in_order else _proven(call, rows)
    proof = proven.proof
    if not proof.independent:
        if where.batch or pooled:
            refuse(dataclasses.replace(call, pooled=pooled), where, proof.reason)
        return Cut(plain, where), Block(where, mixing=proof.reason), {}
    if not where.batch:
        return Cut(plain, where), Block(where), {}
    assert proven.block is not None
    noise = find_noise(call.title, proven.step, proven.block)
    outputs, groups = jax.tree.unflatten(proven.step.out_tree, proof.outputs)
    plain = dataclasses.replace(plain, roles=proof.roles)
    cut = Cut(plain, where, tuple(jax.tree.leaves(outputs)))
    return cut, Block(where, noise), groups


def _proven(call: Call, rows: Any, state: Sequence[str] = ()) -> Proven:
    """Return the proof of a step and the state named; what else it writes has its own rules."""

    def step(leaves: list[Any]) -> Any:
        output, groups = call.step(leaves)
        kept = {name: value for name, value in groups[EQUAL].items() if name in state}
        return output, {**groups, EQUAL: kept, EACH: {}}

    return prove(dataclasses.replace(call, step=step), rows)


def _in_order(job: Job, call: Call, rows: Any, where: Placement) -> Proven:
    """Return the proof of steps that hand on state: rows of it, or the same on every device.

    Raises:
        StrategyError: rows would meet in the state alone.
    """
    arrays = sorted(name for name, value in job.layer.variables.items() if is_array(value))
    held = [name for name in arrays if job.layer.role(name) == "state"]
    proven = _proven(call, rows, held)
    if proven.proof.independent and _goes_on(proven, arrays):
        return proven
    state = sorted(_state_after(proven.step, proven.step.out_avals))
    roles = list(call.roles)
    for name in state:
        shape = job.layer.variables[name].shape
        if shape and shape[0] == call.batch:
            roles[arrays.index(name)] = "spread"
    proven = _proven(dataclasses.replace(call, roles=tuple(roles)), rows, held)
    if proven.proof.independent and _goes_on(proven, arrays):
        return proven
    alone = _proven(call, rows)
    if alone.proof.independent:
        reason = proven.proof.reason or "it has rows after a step and none before"
        raise StrategyError(
            f'{job.layer.title} has state="carry", and its state ({", ".join(state)}) would differ '
            f"between devices, since the batch is spread over {sequence(where.batch)}: {reason}. "
            f"Use partition=PartitionSpec(), which leaves spreading to XLA."
        )
    return alone


def _state_after(step: Program, values: Sequence[Any]) -> dict[str, Any]:
    """Return those of a step's outputs that are new values of state, by name."""
    state: dict[str, Any] = jax.tree.unflatten(step.out_tree, values)[1][EQUAL]
    return state


def _goes_on(proven: Proven, arrays: Sequence[str]) -> bool:
    """Say whether state has its rows after a step where they were before, if it has any."""
    before = dict(zip(arrays, proven.proof.roles, strict=False))
    return all(
        kind == Rows(0) if before[name] == "spread" else not isinstance(kind, Rows)
        for name, kind in _state_after(proven.step, proven.proof.outputs).items()
    )


def _written_specs(
    job: Job, cut: Cut, groups: Written, written: dict[str, Any], kinds: Written
) -> list[PartitionSpec]:
    """Return how new values of variables lie, in the order of their names."""
    times = {**dict.fromkeys(groups[ROWS], 1), **dict.fromkeys(groups[SCALARS], 0)}
    rows = {name: kind for group in kinds.values() for name, kind in group.items()}
    return [
        cut.out_spec(
            written[name], None if job.layer.summed(name) else times.get(name), rows.get(name)
        )
        for name in sorted(written)
    ]
