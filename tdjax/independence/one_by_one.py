"""Whether several steps can run at once, as `jax.vmap` runs them, or one after the other alone.

Some operations have no rule for batches, or none for every form (a callback to the host that does
not say how, `jax.lax.ragged_dot`), and effects have an order. Both show in the trace of one step:
its equations are batched abstractly, which runs none of the user's code but rules for `custom_vmap`
and computes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.arrays import is_symbolic, reshaped
from tdjax.core.call import Call, Program
from tdjax.core.jaxpr import (
    all_equations,
    bind,
    effects_of,
    equations_inside,
    evaluate,
    source_line,
)
from tdjax.independence.differing import follow_steps
from tdjax.independence.rules.derivatives import (
    differentiated,
    primitives_of_tangents,
    tangents_by_rule,
)
from tdjax.independence.rules.rule import Form, surely_batches, traits_of
from tdjax.independence.shared_gradients import needs_own_copies


class _OneByOneError(Exception):
    def __init__(self, eqn: Any, why: str) -> None:
        line = source_line(eqn)
        super().__init__(f"`{eqn.primitive.name}`{f' at {line}' if line else ''} {why}")


def why_one_by_one(call: Call, program: Program, fills: bool = True) -> str:
    """Return why the steps of a call must run one after the other; "" where they need not.

    Args:
        call: what is called.
        program: a trace of its step.
        fills: whether a last chunk may be filled with copies of steps, which would have the effects
            of those again.
    """
    differentiable = call.is_differentiable(program)
    equations = list(all_equations(program.jaxpr.bare))
    by_rule = differentiable and any(_doubtful_tangents(eqn) is not None for eqn in equations)
    if not by_rule and not any(map(_is_doubtful, equations)):
        return ""
    try:
        _check_effects(call, program, fills)
        mapped = [axis is not None for axis in call.axes]
        copies = differentiable and needs_own_copies(program.jaxpr, mapped, fills)
        _batch_abstractly(call, program, copies)
    except _OneByOneError as error:
        return str(error)
    return ""


def makes_refs(program: Program) -> bool:
    """Say whether a step makes arrays that it changes in place: JAX batches their first axis."""
    return any(eqn.primitive.name == "new_ref" for eqn in all_equations(program.jaxpr.bare))


def _is_doubtful(eqn: Any) -> bool:
    return bool(eqn.effects) or (bool(eqn.invars) and not surely_batches(eqn.primitive))


def _doubtful_tangents(eqn: Any) -> Any:
    """Return what computes the tangents of an equation, if JAX may not batch that."""
    if all(map(surely_batches, primitives_of_tangents(eqn))):
        return None
    return tangents_by_rule(eqn)


def _check_effects(call: Call, program: Program, fills: bool) -> None:
    def look(eqn: Any, stepped: list[bool]) -> None:
        effects = effects_of(eqn)
        if traits_of(eqn.primitive).form is not Form.OPERATION:
            return  # what is inside is looked at by itself
        if any(name.startswith("Ordered") for name in effects):
            raise _OneByOneError(eqn, "has effects in the order of the steps")
        if "IOEffect" in effects and (fills or not any(stepped)):
            raise _OneByOneError(eqn, "has an effect that every step is to have once")

    shared = [False] * len(program.jaxpr.constvars)
    follow_steps(program.jaxpr, [*shared, *(axis is not None for axis in call.axes)], look)


def _batch_abstractly(call: Call, program: Program, copies: bool) -> None:
    """Batch a step's equations, with copies of the shared arrays that have gradients or without."""
    time = 2 if is_symbolic(call.time) else call.time

    def copied(array: Any) -> bool:
        return copies and bool(jnp.issubdtype(array.dtype, jnp.inexact))

    mapped = [
        axis is not None or copied(leaf) for leaf, axis in zip(call.leaves, call.axes, strict=True)
    ]
    specs = [
        reshaped((time,) * steps + call.step_shape(index), leaf)
        for index, (leaf, steps) in enumerate(zip(call.leaves, mapped, strict=True))
    ]
    consts = [reshaped((time,) * copied(each) + each.shape, each) for each in program.consts]

    def step(consts: list[Any], leaves: list[Any]) -> list[Any]:
        return evaluate(program.jaxpr.bare, consts, leaves, _bind)

    in_axes = (
        [0 if copied(each) else None for each in program.consts],
        [0 if steps else None for steps in mapped],
    )
    batched = jax.vmap(step, in_axes, axis_size=time, axis_name=call.axis_name)
    jax.eval_shape(batched, consts, specs)


def _bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    try:
        tangents = _doubtful_tangents(eqn)
        if tangents is not None:
            variables, active, _ = differentiated(eqn)
            given = [values[i] for i in (*variables, *active)]
            with contextlib.suppress(TypeError):  # a rule for reverse mode alone, which is in it
                evaluate(tangents.jaxpr, tangents.consts, given, _bind)
        return bind(eqn, values)
    except (NotImplementedError, ValueError) as error:  # what JAX raises where there is no rule
        inside = (eqn, *equations_inside(eqn))
        if any(each.primitive.name == "custom_vmap_call" for each in inside):
            raise  # the user's own rule
        leaves = (each for each in inside if not any(equations_inside(each)))
        least = next(filter(_is_doubtful, leaves), eqn)
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise _OneByOneError(least, f"cannot be batched ({first})") from error
