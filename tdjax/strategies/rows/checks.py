"""Steps that check something: `jax.experimental.checkify.check` inside loops over steps.

A check is an operation without outputs. JAX drops those inside a loop or a `jax.checkpoint` that is
differentiated, and nothing is reported. So what checks find becomes data inside the computation of
a strategy, and is checked once more outside of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tdjax.core.call import Program
from tdjax.core.jaxpr import all_equations


def has_checks(program: Program) -> bool:
    """Say whether a step checks anything."""
    return any(eqn.primitive.name == "check" for eqn in all_equations(program.jaxpr.bare))


def run_with_checks(
    program: Program, run: Callable[..., Any], compute: Callable[..., Any], *operands: Any
) -> Any:
    """Return `run(compute, *operands)`, and report what the checks of a step have found in it."""
    if not has_checks(program):
        return run(compute, *operands)
    from jax.experimental import checkify

    error, outputs = run(checkify.checkify(compute, errors=checkify.user_checks), *operands)
    checkify.check_error(error)
    return outputs
