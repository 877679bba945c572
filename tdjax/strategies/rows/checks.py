"""Steps that check something: `jax.experimental.checkify.check` inside loops over steps.

A check is an operation without outputs. JAX drops those inside a loop or a `jax.checkpoint` that is
differentiated, and nothing is reported. So what checks find becomes data inside the computation of
a strategy, and is checked once more outside of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tdjax.core.call import Program
from tdjax.core.jaxpr import all_equations


def has_checks(program: Program) -> bool:
    """Say whether a step checks anything."""
    return any(eqn.primitive.name == "check" for eqn in all_equations(program.jaxpr.bare))


def reporting_checks(
    program: Program, compute: Callable[..., Any], run: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Return a function that computes the same, and reports outside what checks find inside.

    Args:
        program: a trace of the step, which may check something.
        compute: runs the step in loops.
        run: calls it with its arguments, in a way of its own.
    """
    if not has_checks(program):
        return compute if run is None else functools.partial(run, compute)
    from jax.experimental import checkify

    checked = checkify.checkify(compute, errors=checkify.user_checks)

    def reported(*operands: Any) -> Any:
        error, outputs = checked(*operands) if run is None else run(checked, *operands)
        checkify.check_error(error)
        return outputs

    return reported
