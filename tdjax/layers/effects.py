"""What a call of a layer writes, and which of it differs between steps: found by one trace."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any

import jax

from tdjax.core.call import Call, Program, trace_along
from tdjax.core.jaxpr import names_axis, uses_axis
from tdjax.independence.differing import follow_steps
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

    def look(eqn: Any, inputs: list[Depends]) -> list[Depends] | None:
        if eqn.primitive.name == "axis_index" and eqn.params["axis_name"] == axis_name:
            return [Depends.ITS_STEP]
        over_devices = traits_of(eqn.primitive).form is Form.REDUCTION_OVER_DEVICES
        if over_devices and names_axis(eqn, axis_name):
            return [min(level, Depends.ALL_STEPS) for level in inputs]
        return None

    inputs = [Depends.NOTHING if axis is None else Depends.ITS_STEP for axis in axes]
    nothing = [Depends.NOTHING] * len(program.jaxpr.constvars)
    found = map(Depends, follow_steps(program.jaxpr, [*nothing, *inputs], look))
    written: dict[str, Depends] = jax.tree.unflatten(program.out_tree, found)[1][EQUAL]
    return written
