"""What folds and packed steps share: values of one step, the step on rows, stacked outputs."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from tdjax.core.call import Call, Program, as_array
from tdjax.core.errors import StrategyError
from tdjax.core.shared import joined
from tdjax.independence import STEP, Kind, Proof, Rows
from tdjax.strategies.rows.layout import repeat, unfold
from tdjax.strategies.rows.step_values import Folded, Hoist


def check_stacked(call: Call, program: Program, proof: Proof) -> None:
    """Raise StrategyError if an output that is not to be stacked has a value for every row."""
    for axis, kind in zip(program.out_axes(call), proof.outputs, strict=True):
        if axis is None and (isinstance(kind, Rows) or kind is STEP):
            raise StrategyError(
                f"out_axes is None for an output of {call.title} that a fold computes row "
                f"by row; give the axis where its steps are to be stacked, or, if it is the "
                f'same for every step, use strategy="vmap".'
            )


def evaluate(
    call: Call, program: Program, proof: Proof, consts: Any, leaves: list[Any], found: list[Any]
) -> list[Any]:
    """Return the outputs on rows; `found` holds, by row, what values of one step contribute."""
    if "step" in call.roles:
        on_rows = [
            None if role == "step" else leaf for leaf, role in zip(leaves, call.roles, strict=True)
        ]
        return Folded(program, proof)(joined(consts), joined(on_rows), found)
    return program(consts, leaves)


def once_a_step(
    call: Call, program: Program, proof: Proof, consts: list[Any], leaves: list[Any]
) -> tuple[list[Any], list[Any]]:
    """Return the outputs that have no rows, and by row what values of one step contribute."""
    if not has_steps(call, proof):
        return [None] * len(proof.outputs), []
    hoist = Hoist(call)
    once = [
        leaf if role == "shared" else None for leaf, role in zip(leaves, call.roles, strict=True)
    ]
    for index, role in enumerate(call.roles):
        if role == "step":
            (leaf,) = joined([leaves[index]])
            once[index] = jnp.moveaxis(leaf, call.time_axis(index), 0)
    assert proof.steps is not None
    values = hoist.run(program.jaxpr, proof.steps, joined(consts), joined(once))
    return [
        value if value is None else as_array(value, aval)
        for value, aval in zip(values, program.out_avals, strict=True)
    ], hoist.found


def has_steps(call: Call, proof: Proof) -> bool:
    """Say whether something without rows is computed, and the proof has followed it."""
    needed = "step" in call.roles or not all(isinstance(kind, Rows) for kind in proof.outputs)
    return needed and proof.steps is not None


def stack(value: Any, kind: Kind, axis: int | None, call: Call) -> Any:
    """Return an output, its rows or time leading, with time where it belongs."""
    if isinstance(kind, Rows):
        assert axis is not None
        return unfold(value, kind, axis, call)
    if kind is STEP:
        assert axis is not None
        return jnp.moveaxis(value, 0, axis)
    return repeat(value, axis, call.time)
