"""Runs one program where a call is not differentiated, and another one where it is.

A call does not know whether it is differentiated, for `jax.grad` may be outermost. `jax.custom_jvp`
does: its function runs if nothing is, and its rule if anything is. The rule differentiates the
other program, so that derivatives of any order are those of that one.

Both programs are traced at the call, since a rule may be called after what is around the call has
been traced, when tracers that it closes over are dead. What they close over is given to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero

from tdjax.core.call import Program
from tdjax.core.jaxpr import open_program
from tdjax.core.shared import as_joined, joining

Run = Callable[[Sequence[Any]], Any]


def run_apart(arrays: Sequence[Any], forward: Run, gradient: Run) -> Any:
    """Return `forward(arrays)`, with the derivatives of `gradient`, which computes the same.

    Args:
        arrays: what is computed with, None included; only what is traced has derivatives.
        forward, gradient: return a pytree of arrays each, of the same types.
    """
    places = [i for i, array in enumerate(arrays) if isinstance(array, jax.core.Tracer)]
    moving = [as_joined(arrays[i]) for i in places]

    def traced(run: Run) -> Program:
        def on_moving(moving: Sequence[Any]) -> Any:
            with joining(moving) as joined:
                merged = list(arrays)
                for place, array in zip(places, joined, strict=True):
                    merged[place] = array
                return run(merged)

        closed, outputs = jax.make_jaxpr(on_moving, return_shape=True)(moving)
        avals, tree = jax.tree.flatten(outputs)
        return Program(None, open_program(closed.jaxpr), tuple(closed.consts), tree, tuple(avals))

    programs = traced(forward), traced(gradient)
    closed_over = {id(const): const for program in programs for const in program.consts}
    numbers = {name: number for number, name in enumerate(closed_over)}

    def evaluated(program: Program, values: Sequence[Any]) -> list[Any]:
        consts = [values[numbers[id(const)]] for const in program.consts]
        return program(consts, values[len(numbers) :])

    first, second = programs

    @jax.custom_jvp
    def call(values: list[Any]) -> list[Any]:
        return evaluated(first, values)

    def rule(primals: tuple[list[Any]], tangents: tuple[list[Any]]) -> tuple[Any, Any]:
        (values,), (changes,) = primals, tangents
        changed = [i for i, each in enumerate(changes) if not isinstance(each, SymbolicZero)]

        def of_changed(*given: Any) -> list[Any]:
            merged = list(values)
            for place, value in zip(changed, given, strict=True):
                merged[place] = value
            return evaluated(second, merged)

        return jax.jvp(of_changed, [values[i] for i in changed], [changes[i] for i in changed])

    call.defjvp(rule, symbolic_zeros=True)
    return jax.tree.unflatten(
        first.out_tree, call([*closed_over.values(), *jax.tree.leaves(moving)])
    )
