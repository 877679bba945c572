"""What steps print, where the function is called on rows of several steps at once.

`jax.debug.print` and `jax.debug.callback` are taken out of the step, with all that is computed for
them alone: a mean over the batch is none of a fold's business. What that needs of the rest becomes
an output; once all steps are computed, it is evaluated for each of them, in the order of the loop.
As under `jax.vmap`, what is the same for all steps is printed once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from tdjax.core.arrays import is_symbolic, reshaped
from tdjax.core.call import Call, trace
from tdjax.core.jaxpr import all_equations, bind, inner_program, is_literal, stand_in

_PRINTS = ("debug_print", "debug_callback")
_CALLS = ("jit", "pjit", "closed_call", "core_call")


@dataclasses.dataclass(frozen=True, eq=False)
class Prints:
    """What a step prints.

    Attributes:
        known: the values of variables that all steps share.
        needed: the variables whose values the step returns beside its output.
        alone: the operations that are done for prints alone.
        equations: what prints, the atoms that it is given, and whether steps differ in them.
    """

    known: dict[Any, Any]
    needed: list[Any]
    alone: list[Any]
    equations: Sequence[tuple[Any, Sequence[Any], bool]]

    def tell(self, outputs: Any, time: int) -> Any:
        """Print for every step, and return the output without what was needed for it."""
        output, stacked = outputs
        for t in range(time):
            values = {v: value[t] for v, value in zip(self.needed, stacked, strict=True)}
            values.update(self.known)
            _evaluate(self.alone, values)
            for eqn, atoms, differs in self.equations:
                if differs or t == 0:
                    bind(eqn, [_read(atom, values) for atom in atoms])
        return output


def lift_prints(call: Call) -> Call | None:
    """Return a call whose step returns what its prints need; None if it prints nothing by itself.

    All steps as one batch print once, as they are.
    """
    if call.prints is not None or call.pooled or is_symbolic(call.time):
        return None
    program = call.traced or trace(call, call.batch)
    if not any(eqn.primitive.name in _PRINTS for eqn in all_equations(program.jaxpr.bare)):
        return None
    specs = [reshaped(call.step_shape(i), leaf) for i, leaf in enumerate(call.leaves)]
    first = _Split(call, specs)
    if not first.equations:
        return None  # they are in a loop or a branch, which a proof refuses by name

    def step(leaves: list[Any]) -> Any:
        split = _Split(call, leaves)
        values = dict(zip(split.jaxpr.invars, leaves, strict=True))
        values.update(zip(split.jaxpr.constvars, split.consts, strict=True))
        _evaluate(split.main, values)
        flat = [_read(atom, values) for atom in split.jaxpr.outvars[: split.outputs.num_leaves]]
        return jax.tree.unflatten(split.outputs, flat), [values[v] for v in split.needed]

    known = dict(zip(first.jaxpr.constvars, first.consts, strict=True))
    known.update({v: call.leaves[index] for v, index in first.shared.items()})
    return call.replace(
        step=stand_in(step, call.step),
        out_axes=(call.out_axes, 0),
        traced=None,
        proven=None,
        prints=Prints(known, first.needed, first.alone, first.given),
    )


class _Split:
    """A trace of a step, in two parts: what its output needs, and what prints need beside it."""

    def __init__(self, call: Call, leaves: Sequence[Any]) -> None:
        self.equations: list[Any] = []
        trees: list[Any] = []

        def quiet(*given: Any) -> Any:
            shown = stand_in(lambda *given: call.step(list(given)), call.step, call.names)
            closed, output = jax.make_jaxpr(shown, return_shape=True)(*given)
            told: list[tuple[Any, list[Any]]] = []
            flat = _without_prints(closed.jaxpr, closed.consts, given, told)
            self.equations, trees[:] = [eqn for eqn, _ in told], [jax.tree.structure(output)]
            return flat, [values for _, values in told]

        closed = jax.make_jaxpr(stand_in(quiet, call.step, call.names))(*leaves)
        self.jaxpr, self.consts, (self.outputs,) = closed.jaxpr, closed.consts, trees
        told = iter(self.jaxpr.outvars[self.outputs.num_leaves :])
        given = [[next(told) for _ in eqn.invars] for eqn in self.equations]
        self.main = _needed_for(self.jaxpr.outvars[: self.outputs.num_leaves], self.jaxpr.eqns)
        done = set(map(id, self.main))
        rest = [eqn for eqn in self.jaxpr.eqns if id(eqn) not in done]
        self.alone = _needed_for([atom for atoms in given for atom in atoms], rest)
        made = {variable for eqn in self.alone for variable in eqn.outvars}
        used = [atom for eqn in self.alone for atom in eqn.invars]
        used += [atom for atoms in given for atom in atoms]
        axes = dict(zip(self.jaxpr.invars, call.axes, strict=True))
        places = {variable: index for index, variable in enumerate(self.jaxpr.invars)}
        free = dict.fromkeys(a for a in used if not is_literal(a) and a not in made)
        self.shared = {v: places[v] for v in free if v in axes and axes[v] is None}
        apart = {*self.shared, *self.jaxpr.constvars}
        self.needed = [variable for variable in free if variable not in apart]
        differing = {variable for variable, axis in axes.items() if axis is not None}
        for eqn in self.jaxpr.eqns:
            if any(not is_literal(atom) and atom in differing for atom in eqn.invars):
                differing.update(eqn.outvars)
        self.given = [
            (eqn, atoms, any(not is_literal(atom) and atom in differing for atom in atoms))
            for eqn, atoms in zip(self.equations, given, strict=True)
        ]


def _needed_for(atoms: Sequence[Any], equations: Sequence[Any]) -> list[Any]:
    """Return the equations that are needed to compute these atoms, or have an effect."""
    needed, found = {atom for atom in atoms if not is_literal(atom)}, []
    for eqn in reversed(equations):
        if eqn.effects or not needed.isdisjoint(eqn.outvars):
            needed.update(atom for atom in eqn.invars if not is_literal(atom))
            found.append(eqn)
    return found[::-1]


def _read(atom: Any, values: dict[Any, Any]) -> Any:
    return atom.val if is_literal(atom) else values[atom]


def _evaluate(equations: Sequence[Any], values: dict[Any, Any]) -> None:
    """Add to the values of variables those that equations compute."""
    for eqn in equations:
        outputs = bind(eqn, [_read(atom, values) for atom in eqn.invars])
        values.update(zip(eqn.outvars, outputs, strict=True))


def _without_prints(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any], told: list[tuple[Any, list[Any]]]
) -> list[Any]:
    """Evaluate a program without its prints; `told` takes each, with what it would be given."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))
    for eqn in jaxpr.eqns:
        given = [_read(atom, values) for atom in eqn.invars]
        if eqn.primitive.name in _PRINTS:
            told.append((eqn, given))
        elif (inner := _printing_call(eqn)) is None:
            values.update(zip(eqn.outvars, bind(eqn, given), strict=True))
        else:
            outputs = _without_prints(getattr(inner, "jaxpr", inner), inner.consts, given, told)
            values.update(zip(eqn.outvars, outputs, strict=True))
    return [_read(atom, values) for atom in jaxpr.outvars]


def _printing_call(eqn: Any) -> Any:
    """Return the program of a call that prints, None for any other equation."""
    inner = inner_program(eqn) if eqn.primitive.name in _CALLS else None
    if inner is None or not any(each.primitive.name in _PRINTS for each in all_equations(inner)):
        return None
    return inner
