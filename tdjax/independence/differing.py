"""Which values of a step's program differ between steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tdjax.core.jaxpr import inner_program, is_literal, scan_counts
from tdjax.independence.rules.rule import Form, traits_of

Look = Callable[[Any, list[Any]], list[Any] | None]


def follow_steps(program: Any, stepped: Sequence[Any], look: Look = lambda *_: None) -> list[Any]:
    """Return which outputs of a program differ between steps.

    Args:
        program: a trace of one step.
        stepped: which of its constants and inputs differ; or how much, on a scale from 0 on where
            an output is as high as the highest of its inputs.
        look: is shown every equation, and which of its inputs differ; what it returns, unless that
            is None, is said of the outputs.
    """
    jaxpr = getattr(program, "jaxpr", program)
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), stepped, strict=True))

    def read(atom: Any) -> Any:
        return not is_literal(atom) and known[atom]

    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        said = look(eqn, inputs)
        outputs = follow_equation(eqn, inputs, look) if said is None else said
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def follow_equation(eqn: Any, inputs: list[Any], look: Look = lambda *_: None) -> list[Any]:
    """Return which outputs of an equation differ between steps; see `follow_steps`."""
    form = traits_of(eqn.primitive).form

    def inside(program: Any, given: Sequence[Any]) -> list[Any]:
        consts = [False] * len(getattr(program, "jaxpr", program).constvars)
        return follow_steps(program, [*consts, *given], look)

    if form is Form.BRANCH:
        branches = [inside(branch, inputs[1:]) for branch in eqn.params["branches"]]
        return [max(inputs[0], *each) for each in zip(*branches, strict=True)]
    if form is Form.LOOP:
        return (_while if "body_jaxpr" in eqn.params else _scan)(eqn, inputs, inside)
    called = inner_program(eqn)
    jaxpr = getattr(called, "jaxpr", called)
    # One that runs on refs gives what they hold in the end, and no outputs.
    if jaxpr is None or len(jaxpr.outvars) != len(eqn.outvars) or len(jaxpr.invars) != len(inputs):
        return [max(inputs, default=False)] * len(eqn.outvars)
    return inside(called, inputs)


def _scan(eqn: Any, inputs: list[Any], inside: Callable[..., list[Any]]) -> list[Any]:
    first, carried = scan_counts(eqn)
    consts, xs = inputs[:first], inputs[first + carried :]
    return _settled(
        inputs[first : first + carried],
        lambda carry: inside(eqn.params["jaxpr"], [*consts, *carry, *xs]),
    )


def _while(eqn: Any, inputs: list[Any], inside: Callable[..., list[Any]]) -> list[Any]:
    params = eqn.params
    before, first = params["cond_nconsts"], params["body_nconsts"]
    of_test, consts = inputs[:before], inputs[before : before + first]

    def turn(carry: list[Any]) -> list[Any]:
        # What decides how often it goes round decides what comes out.
        (goes_on,) = inside(params["cond_jaxpr"], [*of_test, *carry])
        return [max(goes_on, each) for each in inside(params["body_jaxpr"], [*consts, *carry])]

    return _settled(inputs[before + first :], turn)


def _settled(carry: list[Any], turn: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """Return what comes out of a loop: it goes round until nothing more differs between steps."""
    while True:
        outputs = turn(carry)
        after = [max(pair) for pair in zip(carry, outputs, strict=False)]
        if after == carry:
            return [*carry, *outputs[len(carry) :]]
        carry = after
