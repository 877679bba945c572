"""What a call of a layer writes, and which of it differs between steps: found by one trace."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any

import jax

from tdjax.core.call import Call, Program, trace_along
from tdjax.core.jaxpr import inner_program, is_literal, names_axis, scan_counts, uses_axis
from tdjax.independence.rules.rule import Form, traits_of
from tdjax.layers.layer_call import EQUAL
from tdjax.partition.noise import draws


class Depends(enum.IntEnum):
    """What a value depends on, from nothing that has time to a single step."""

    NOTHING = 0
    ALL_STEPS = 1
    ITS_STEP = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Effects:
    """What one step does beside giving an output.

    Attributes:
        written: for each variable that was held before and written, what its new value depends on.
        shapes: their shapes and types after the step.
        noise: the shapes of the noise that it draws, in order.
        program: the step as it was traced.
        along_time: whether it talks to the other steps.
        axes: where time is in each of its inputs.
    """

    written: dict[str, Depends]
    shapes: dict[str, Any]
    noise: list[tuple[str, tuple]]
    program: Program
    along_time: bool
    axes: tuple[int | None, ...]

    def local_to(self, axis_name: str) -> list[str]:
        """Return the variables whose new values differ between devices along an axis of a mesh."""
        found = _written(self.program, self.axes, axis_name)
        return [name for name, depends in found.items() if depends is Depends.ITS_STEP]


def find_effects(call: Call, axis_name: str) -> Effects:
    """Trace one step whose second output is `{"equal": {name: value}, ...}` and follow its inputs.

    Inside the step, `axis_name` stands for time.
    """
    program = trace_along(call, call.batch, axis_name)
    _, groups = jax.tree.unflatten(program.out_tree, program.out_avals)
    return Effects(
        written=_written(program, call.axes, axis_name),
        shapes=groups[EQUAL],
        noise=draws(program.jaxpr),
        program=program,
        along_time=uses_axis(program.jaxpr.bare, axis_name),
        axes=call.axes,
    )


def _written(program: Program, axes: Sequence[int | None], axis_name: str) -> dict[str, Depends]:
    """Return what the variables that a step writes depend on, along a named axis."""
    inputs = [Depends.NOTHING if axis is None else Depends.ITS_STEP for axis in axes]
    nothing = [Depends.NOTHING] * len(program.jaxpr.constvars)
    found = _follow(program.jaxpr, [*nothing, *inputs], axis_name)
    written: dict[str, Depends] = jax.tree.unflatten(program.out_tree, found)[1][EQUAL]
    return written


def _follow(jaxpr: Any, inputs: Sequence[Depends], axis_name: str) -> list[Depends]:
    """Return what the outputs of a program depend on."""
    known: dict[Any, Depends] = dict(zip((*jaxpr.constvars, *jaxpr.invars), inputs, strict=True))

    def read(atom: Any) -> Depends:
        return Depends.NOTHING if is_literal(atom) else known[atom]

    for eqn in jaxpr.eqns:
        outputs = _equation(eqn, [read(atom) for atom in eqn.invars], axis_name)
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(eqn: Any, inputs: list[Depends], axis_name: str) -> list[Depends]:
    params, form = eqn.params, traits_of(eqn.primitive).form
    if eqn.primitive.name == "axis_index" and params["axis_name"] == axis_name:
        return [Depends.ITS_STEP]
    if form is Form.REDUCTION_OVER_DEVICES and names_axis(eqn, axis_name):
        return [min(level, Depends.ALL_STEPS) for level in inputs]
    if form is Form.BRANCH:
        return _cond(params, inputs, axis_name)
    if form is Form.LOOP and "body_jaxpr" not in params:
        return _scan(eqn, inputs, axis_name)
    inner = None if form is Form.LOOP else inner_program(eqn)
    if inner is not None and len(getattr(inner, "jaxpr", inner).invars) == len(inputs):
        return _inside(inner, inputs, axis_name)
    return [max(inputs, default=Depends.NOTHING)] * len(eqn.outvars)


def _inside(closed: Any, inputs: Sequence[Depends], axis_name: str) -> list[Depends]:
    program = getattr(closed, "jaxpr", closed)
    return _follow(program, [*[Depends.NOTHING] * len(program.constvars), *inputs], axis_name)


def _scan(eqn: Any, inputs: list[Depends], axis_name: str) -> list[Depends]:
    first, carried = scan_counts(eqn)
    second = first + carried
    carry = inputs[first:second]
    while True:
        given = [*inputs[:first], *carry, *inputs[second:]]
        outputs = _inside(eqn.params["jaxpr"], given, axis_name)
        after = [max(pair) for pair in zip(carry, outputs, strict=False)]
        if after == carry:
            return [*carry, *outputs[len(carry) :]]
        carry = after


def _cond(params: dict[str, Any], inputs: list[Depends], axis_name: str) -> list[Depends]:
    which, *operands = inputs
    branches = [_inside(branch, operands, axis_name) for branch in params["branches"]]
    return [max(which, *levels) for levels in zip(*branches, strict=True)]
