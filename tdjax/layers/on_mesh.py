"""Runs a layer on every device's own block of batch and time.

Inside a block everything is as it is on one device, with three exceptions: steps have the keys of
their number in the whole call, rows draw their part of the noise of all rows, and batch
normalization averages over the mesh.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec

from tdjax.core.arrays import take_arrays
from tdjax.core.call import Call, Program
from tdjax.core.errors import StrategyError
from tdjax.independence import Proven, Rows, prove
from tdjax.layers.device_part import DevicePart
from tdjax.layers.layer_call import EACH, EQUAL, ROWS, SCALARS, LayerCall, Way, bind_arguments
from tdjax.partition.device_block import DividedCall, refuse_dependent_rows, within_block
from tdjax.partition.noise import find_noise
from tdjax.partition.placement import Placement, find_placement, quote_names
from tdjax.partition.shard_map import map_blocks
from tdjax.strategies import Vmap

Written = dict[str, dict[str, Any]]


def run_on_mesh(
    call: LayerCall,
    run: Callable[[LayerCall], tuple[Any, Written]],
    merge: Callable[[LayerCall, Written], dict[str, Any]],
) -> tuple[Any, dict[str, Any]]:
    """Return the output, and the new value of every variable that was written.

    Args:
        call: the whole call.
        run: runs a call, or a block of one; returns the output, and what was written, in groups.
        merge: gives one new value for each variable.
    """
    where = find_placement(call.bound, call.options.partition)
    if where is None:
        output, groups = run(call)
        return output, merge(call, groups)
    layer = call.layer
    divided, part, kinds = _divide(call, where)
    operands, put_arrays = take_arrays((layer.variables, layer.keys, call.args, call.mask))
    specs = [divided.spec(index) for index in range(len(operands) - (call.mask is not None))]
    first_key = len(layer.array_names)
    specs[first_key : first_key + len(layer.keys)] = [PartitionSpec()] * len(layer.keys)
    if call.mask is not None:
        specs.append(where.spec(call.mask.ndim, 0, 1))

    def block(operands: list[Any]) -> tuple[Any, list[PartitionSpec]]:
        variables, keys, args, mask = put_arrays(operands)
        with layer.holding(variables, keys):
            bound = bind_arguments(layer, call.options, args, mask)
            local = dataclasses.replace(call, args=args, bound=bound, part=part)
            output, groups = run(local)
            written = merge(local, groups)
        out_specs = divided.out_specs(output)
        return (output, written), out_specs + _written_specs(call, divided, groups, written, kinds)

    return map_blocks(where, block, operands, specs)


def _divide(call: LayerCall, where: Placement) -> tuple[DividedCall, DevicePart, Written]:
    """Return how a call is divided, what a device knows, and where rows are in what steps write.

    Raises:
        StrategyError: rows of different devices may depend on each other, batch statistics aside.
    """
    bound = call.bind_step(Way(Vmap(), frozen=True))
    plain = bound.replace(out_axes=call.options.out_axes)
    pooled = call.options.pooled is True
    if not where.batch and not pooled and not call.layer.may_write:
        return DividedCall(plain, where), DevicePart(where), {}
    rows = call.bound.batch // where.batch_blocks
    in_order = call.options.state == "carry" and not where.time
    with within_block(where):
        proven = _prove_in_order(call, bound, rows, where) if in_order else _prove(bound, rows)
    proof = proven.proof
    if not proof.independent:
        if where.batch or pooled:
            refuse_dependent_rows(bound.replace(pooled=pooled), where, proof.reason)
        return DividedCall(plain, where), DevicePart(where, mixing=proof.reason), {}
    if not where.batch:
        return DividedCall(plain, where), DevicePart(where), {}
    assert proven.block is not None
    noise = find_noise(bound.title, proven.step, proven.block)
    outputs, groups = jax.tree.unflatten(proven.step.out_tree, proof.outputs)
    plain = plain.replace(roles=proof.roles)
    divided = DividedCall(plain, where, tuple(jax.tree.leaves(outputs)))
    return divided, DevicePart(where, noise), groups


def _prove(call: Call, rows: Any, state: Sequence[str] = ()) -> Proven:
    """Return the proof of a step's output and of the state named, not of what else it writes."""

    def step(leaves: list[Any]) -> Any:
        output, groups = call.step(leaves)
        kept = {name: value for name, value in groups[EQUAL].items() if name in state}
        return output, {**groups, EQUAL: kept, EACH: {}}

    return prove(call.replace(step=step), rows)


def _prove_in_order(call: LayerCall, bound: Call, rows: Any, where: Placement) -> Proven:
    """Return the proof of steps that carry state: divided by rows, or equal on all devices.

    Raises:
        StrategyError: rows depend on each other in the state only.
    """
    layer = call.layer
    held = [name for name in layer.array_names if layer.role(name) == "state"]
    proven = _prove(bound, rows, held)
    if proven.proof.independent and _keeps_rows(proven, layer.array_names):
        return proven
    state = sorted(_state_after(proven.step, proven.step.out_avals))
    roles = list(bound.roles)
    for name in state:
        shape = layer.variables[name].shape
        if shape and shape[0] == bound.batch:
            roles[layer.array_names.index(name)] = "spread"
    proven = _prove(bound.replace(roles=tuple(roles)), rows, held)
    if proven.proof.independent and _keeps_rows(proven, layer.array_names):
        return proven
    alone = _prove(bound, rows)
    if alone.proof.independent:
        reason = proven.proof.reason or "it has rows after a step and none before"
        raise StrategyError(
            f'{layer.title} has state="carry", and its state ({", ".join(state)}) would differ '
            f"between devices, since the batch is spread over {quote_names(where.batch)}: "
            f"{reason}. Use partition=PartitionSpec(), which leaves spreading to XLA."
        )
    return alone


def _state_after(step: Program, values: Sequence[Any]) -> dict[str, Any]:
    """Return the outputs of a step that are new values of state, by name."""
    state: dict[str, Any] = jax.tree.unflatten(step.out_tree, values)[1][EQUAL]
    return state


def _keeps_rows(proven: Proven, arrays: Sequence[str]) -> bool:
    """Say whether a step leaves the rows of its state on the axis where they were, if any."""
    before = dict(zip(arrays, proven.proof.roles, strict=False))
    return all(
        kind == Rows(0) if before[name] == "spread" else not isinstance(kind, Rows)
        for name, kind in _state_after(proven.step, proven.proof.outputs).items()
    )


def _written_specs(
    call: LayerCall,
    divided: DividedCall,
    groups: Written,
    written: dict[str, Any],
    kinds: Written,
) -> list[PartitionSpec]:
    """Return the specs of the new values of variables, in the order of their names."""
    times = {**dict.fromkeys(groups[ROWS], 1), **dict.fromkeys(groups[SCALARS], 0)}
    rows = {name: kind for group in kinds.values() for name, kind in group.items()}
    return [
        divided.out_spec(
            written[name], None if call.layer.summed(name) else times.get(name), rows.get(name)
        )
        for name in sorted(written)
    ]
