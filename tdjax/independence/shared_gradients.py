"""Whether the gradients of shared arrays add up when many steps are run at once.

The loop adds up one gradient a step for every array that the steps share. `jax.vmap` of a step adds
up what differs between steps; what a custom derivative rule gives for a shared array without
looking at the step, it counts once, and a rule on shared arrays alone it calls once, with
the sum of all cotangents. Steps that only fill up a last chunk have cotangents of zero, and add
what a rule gives for zero, and so do masked steps. If every step has copies of its own of what is
shared, all of them are what the loop does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tdjax.core.call import Call
from tdjax.core.jaxpr import all_equations
from tdjax.independence.analysis import Analysis
from tdjax.independence.differing import follow_equation, follow_steps
from tdjax.independence.kinds import CONST, SUM, NotProvenError
from tdjax.independence.rules.derivatives import (
    adds_by_itself,
    asks_what_is_wanted,
    differentiated,
    has_reverse_rule,
    is_written_by_hand,
    pullback,
)
from tdjax.independence.rules.zeros import known_zeros
from tdjax.independence.two_traces import Merged

OVERWRITTEN = "_overwrite_with_gradient"
"""What Flax calls variables whose gradients are their new values: the scales of its fp8 layers."""


def gives_new_values(call: Call) -> bool:
    """Say whether the gradients of some shared arguments are to be their new values.

    They come from rules written by hand, which do not look at the cotangent.
    """
    shared = [i for i, axis in enumerate(call.axes) if axis is None]
    return any(OVERWRITTEN in call.names[i] or adds_by_itself(call.leaves[i]) for i in shared)


def needs_own_copies(program: Any, mapped: Sequence[bool], fills: bool) -> bool:
    """Say whether steps need copies of their own of the arrays that they share.

    Args:
        program: a trace of one step, an `Opened`.
        mapped: for each input, whether steps have their own; its constants are shared.
        fills: whether there are steps that only fill up a chunk, or masked ones.
    """
    if not any(map(_has_rule, all_equations(program))):
        return False
    shared = [False] * len(program.constvars)
    found: list[bool] = []

    def check(eqn: Any, stepped: list[bool]) -> None:
        # Without a step's own values, even a rule of JAX's has to be shown to be linear.
        if _has_rule(eqn) and (is_written_by_hand(eqn) or not any(stepped)):
            found.append(not _adds_up(eqn, stepped, fills))

    follow_steps(program, [*shared, *mapped], check)
    return any(found)


def _has_rule(eqn: Any) -> bool:
    return has_reverse_rule(eqn) or is_written_by_hand(eqn)


def _adds_up(eqn: Any, stepped: list[bool], fills: bool) -> bool:
    """Say whether a rule gives the loop's gradients to what the steps of its call share."""
    variables, active, smooth = differentiated(eqn)
    shared = [place for place, i in enumerate(active) if not stepped[i]]
    if not smooth or not (shared or (fills and active)):
        return True
    if asks_what_is_wanted(eqn):
        return False
    try:
        derived = pullback(eqn, variables, active, smooth)
    except NotProvenError:
        return False
    jaxpr, cotangents = derived.jaxpr, len(smooth)
    of_zero = known_zeros(jaxpr, [False] * len(variables) + [True] * cotangents)[: len(active)]
    if (fills or not any(stepped)) and not all(of_zero):
        return False
    nothing = known_zeros(jaxpr, [False] * len(jaxpr.invars))
    if any(stepped):
        if shared and not all(map(follow_equation(eqn, stepped).__getitem__, smooth)):
            return False  # of an output that all steps share, `jax.vmap` hands on one cotangent
        differs = [stepped[i] for i in variables] + [True] * cotangents
        follows = follow_steps(jaxpr, [*[False] * len(jaxpr.constvars), *differs])
        return all(follows[place] or nothing[place] for place in shared)
    try:
        given = [CONST] * len(variables) + [SUM] * cotangents
        kinds, _ = Analysis(sums=True, depth=1).run(Merged(derived, derived, 1, 2), given)
    except NotProvenError:
        return False
    return all(kinds[place] is SUM or nothing[place] for place in shared)
