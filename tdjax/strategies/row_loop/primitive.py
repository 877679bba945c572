"""The loop over rows as a primitive: its derivatives and batches are such loops again."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad
from jax.sharding import PartitionSpec

from tdjax.core.arrays import vary, varying
from tdjax.core.checkable import Checkable
from tdjax.core.shared import dtype_of_sums
from tdjax.strategies.row_loop.linear import Distinct, linearized
from tdjax.strategies.row_loop.loop import Input, Kind, Loop, Output, Phase, compute


def run(loop: Loop, plan: Any, order: Any, operands: Sequence[Any]) -> list[Any]:
    """Run a loop; the arguments are those of `compute`."""
    arrays = plan, order, *operands
    axes = frozenset().union(*map(varying, arrays))
    return loop_p.bind(*vary(arrays, axes), loop=loop)


def _abstract(plan: Any, order: Any, *operands: Any, loop: Loop) -> list[Any]:
    # Inside `jax.shard_map`, outputs vary along the axes that all operands vary along.
    return [
        order.update(
            shape=each.aval.shape,
            dtype=each.aval.dtype,
            sharding=order.sharding.update(spec=PartitionSpec(*[None] * len(each.aval.shape))),
        )
        if varying(order)
        else jax.core.ShapedArray(each.aval.shape, each.aval.dtype)
        for each in loop.outputs
    ]


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, loop: Loop) -> tuple[Any, Any]:
    plan, order, *operands = primals
    moving = {
        k: tangent for k, tangent in enumerate(tangents[2:]) if not isinstance(tangent, ad.Zero)
    }
    forward, linear = linearized(loop, operands, moving)
    results = run(forward, plan, order, operands)
    answers = results[: len(loop.outputs)]
    loop, given, places = linear(results)
    moved = dict(zip(places, run(loop, plan, order, given), strict=True))
    return answers, [
        moved[place] if place in moved else ad.Zero(jax.typeof(answer).to_tangent_aval())
        for place, answer in enumerate(answers)
    ]


def _transpose(cotangents: Sequence[Any], plan: Any, order: Any, *operands: Any, loop: Loop) -> Any:
    linear = [k for k, operand in enumerate(operands) if ad.is_undefined_primal(operand)]
    known = [k for k, cotangent in enumerate(cotangents) if not isinstance(cotangent, ad.Zero)]
    found = Distinct()
    phases = tuple(
        _transposed(loop, phase, operands, cotangents, linear, known, found)
        for phase in loop.phases
    )
    kinds, avals = _kinds(loop), [operands[k].aval for k in linear]
    outputs = tuple(
        Output(kinds[k], jax.ShapeDtypeStruct(aval.shape, _dtype(kinds[k], aval)))
        for k, aval in zip(linear, avals, strict=True)
    )
    results = run(loop.instead(phases, outputs), plan, order, found.values)
    moved = {
        k: result.astype(aval.dtype) for k, result, aval in zip(linear, results, avals, strict=True)
    }
    return [None, None, *(moved.get(k) for k in range(len(operands)))]


def _dtype(kind: Kind, aval: Any) -> Any:
    """Return the dtype of the cotangent of an operand, which blocks add up unless it has rows."""
    return dtype_of_sums(aval.dtype) if kind in (Kind.SHARED, Kind.SPREAD) else aval.dtype


def _transposed(
    loop: Loop,
    phase: Phase,
    operands: Sequence[Any],
    cotangents: Sequence[Any],
    linear: Sequence[int],
    known: Sequence[int],
    found: Distinct,
) -> Phase:
    """Return a phase that takes cotangents of outputs and gives those of linear operands."""
    moving = [k for k, each in enumerate(phase.inputs) if each.operand in linear]
    fixed = [k for k, each in enumerate(phase.inputs) if each.operand not in linear]
    given = [k for k, place in enumerate(phase.outputs) if place in known]
    if not given or not moving:
        return phase.idle()
    inputs = []
    for k in fixed:
        each = phase.inputs[k]
        inputs.append(dataclasses.replace(each, operand=found.place(operands[each.operand])))
    for k in given:
        place = phase.outputs[k]
        kind = loop.outputs[place].kind
        inputs.append(Input(found.place(cotangents[place]), kind, zeroed=kind.has_rows))
    avals = [operands[phase.inputs[k].operand].aval for k in moving]
    specs = [phase.taken(phase.inputs[k], aval) for k, aval in zip(moving, avals, strict=True)]
    dtypes = [_dtype(phase.inputs[k].kind, aval) for k, aval in zip(moving, avals, strict=True)]

    def function(values: Sequence[Any]) -> list[Any]:
        taken, cotangents = values[: len(fixed)], values[len(fixed) :]

        def forward(*moved: Any) -> list[Any]:
            merged = dict(zip((*fixed, *moving), (*taken, *moved), strict=True))
            outputs = phase.function([merged[k] for k in range(len(merged))])
            return [outputs[k] for k in given]

        given_back = jax.linear_transpose(forward, *specs)(list(cotangents))
        return [each.astype(dtype) for each, dtype in zip(given_back, dtypes, strict=True)]

    places = tuple(linear.index(phase.inputs[k].operand) for k in moving)
    return dataclasses.replace(phase, function=function, inputs=tuple(inputs), outputs=places)


def _kinds(loop: Loop) -> dict[int, Kind]:
    return {each.operand: each.kind for phase in loop.phases for each in phase.inputs}


# Where a batch lies in what a block takes or gives, and in the whole array.
_INSIDE = {Kind.SHARED: 0, Kind.ROWS: 1, Kind.SPREAD: 1, Kind.STACKED: 0, Kind.KEPT: 0}
_OUTSIDE = {Kind.SHARED: 0, Kind.ROWS: 1, Kind.SPREAD: 1, Kind.STACKED: 1, Kind.KEPT: 0}


def _batch(args: Sequence[Any], dims: Sequence[Any], *, loop: Loop) -> tuple[Any, Any]:
    if dims[0] is not None or dims[1] is not None:
        return _one_by_one(args, dims, loop)
    size = next(arg.shape[dim] for arg, dim in zip(args, dims, strict=True) if dim is not None)
    plan, order, *operands = args
    kinds = _kinds(loop)
    moved = [
        operand if dim is None else jnp.moveaxis(operand, dim, _OUTSIDE[kinds[k]])
        for k, (operand, dim) in enumerate(zip(operands, dims[2:], strict=True))
    ]
    phases = tuple(_batched(loop, phase, dims[2:], size) for phase in loop.phases)
    outputs = []
    for each in loop.outputs:
        shape, axis = each.aval.shape, _OUTSIDE[each.kind]
        aval = jax.ShapeDtypeStruct((*shape[:axis], size, *shape[axis:]), each.aval.dtype)
        outputs.append(Output(each.kind, aval))
    results = run(loop.instead(phases, outputs), plan, order, moved)
    return results, [_OUTSIDE[each.kind] for each in loop.outputs]


def _batched(loop: Loop, phase: Phase, dims: Sequence[Any], size: Any) -> Phase:
    if not phase.outputs:
        return phase
    in_axes = [None if dims[each.operand] is None else _INSIDE[each.kind] for each in phase.inputs]
    out_axes = [_INSIDE[loop.outputs[place].kind] for place in phase.outputs]
    mapped = jax.vmap(
        lambda values: list(phase.function(values)), (in_axes,), out_axes, axis_size=size
    )
    return dataclasses.replace(phase, function=lambda values: mapped(list(values)))


def _one_by_one(args: Sequence[Any], dims: Sequence[Any], loop: Loop) -> tuple[Any, Any]:
    """Run one loop after the other, where each has rows of its own to skip."""
    batched = {k: jnp.moveaxis(args[k], dim, 0) for k, dim in enumerate(dims) if dim is not None}

    def one(values: dict[int, Any]) -> list[Any]:
        plan, order, *operands = (values.get(k, arg) for k, arg in enumerate(args))
        return run(loop, plan, order, operands)

    results = jax.lax.map(one, batched)
    return results, [0] * len(results)


loop_p = Checkable(
    "tdjax_row_loop",
    compute,
    _abstract,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    checked=functools.partial(compute, spare=1),
)
