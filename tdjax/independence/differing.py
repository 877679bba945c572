"""Which values of a step's program differ between steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tdjax.core.jaxpr import inner_program, is_literal, scan_counts
from tdjax.independence.rules.rule import Form, traits_of

Look = Callable[[Any, list[bool]], None]


def follow_steps(program: Any, stepped: Sequence[bool], look: Look = lambda *_: None) -> list[bool]:
    """Return which outputs of a program differ between steps.

    Args:
        program: a trace of one step.
        stepped: which of its constants and inputs differ.
        look: is shown every equation, and which of its inputs differ.
    """
    jaxpr = getattr(program, "jaxpr", program)
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), stepped, strict=True))

    def read(atom: Any) -> bool:
        return not is_literal(atom) and known[atom]

    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        look(eqn, inputs)
        known.update(zip(eqn.outvars, _outputs(eqn, inputs, look), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _outputs(eqn: Any, inputs: list[bool], look: Look) -> list[bool]:
    form = traits_of(eqn.primitive).form

    def inside(program: Any, given: Sequence[bool]) -> list[bool]:
        consts = [False] * len(getattr(program, "jaxpr", program).constvars)
        return follow_steps(program, [*consts, *given], look)

    if form is Form.BRANCH:
        branches = [inside(branch, inputs[1:]) for branch in eqn.params["branches"]]
        return [inputs[0] or any(each) for each in zip(*branches, strict=True)]
    if form is Form.LOOP:
        return _loop(eqn, inputs, inside)
    called = inner_program(eqn)
    if called is not None and len(getattr(called, "jaxpr", called).invars) == len(inputs):
        return inside(called, inputs)
    return [any(inputs)] * len(eqn.outvars)


def _loop(
    eqn: Any, inputs: list[bool], inside: Callable[[Any, Sequence[bool]], list[bool]]
) -> list[bool]:
    """Go round until nothing more differs between steps."""
    if "body_jaxpr" in eqn.params:
        body = eqn.params["body_jaxpr"]
        before, first = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        consts, carry, xs = inputs[before : before + first], inputs[before + first :], []
    else:
        body = eqn.params["jaxpr"]
        first, carried = scan_counts(eqn)
        consts, carry, xs = (
            inputs[:first],
            inputs[first : first + carried],
            inputs[first + carried :],
        )
    while True:
        outputs = inside(body, [*consts, *carry, *xs])
        after = [old or new for old, new in zip(carry, outputs, strict=False)]
        if after == carry:
            return [*carry, *outputs[len(carry) :]]
        carry = after
