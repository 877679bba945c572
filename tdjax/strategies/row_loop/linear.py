"""A loop over rows in two: the forward pass, and the linear map of its tangents.

The loop computes, for blocks `k` of rows `r_k` that the mask keeps (`x[r]` are rows of an operand,
`w` is shared by all),

    y[r_k] = f(w, x[r_k])        s = sum over k of g(w, x[r_k])

Its derivative in the direction `(dw, dx)` is a loop over the same blocks:

    dy[r_k] = J_k(dw, dx[r_k])   ds = sum over k of G_k(dw, dx[r_k])

with `J_k`, `G_k` linear, their coefficients taken where block `k` was computed. And the transpose
of that, which reverse mode needs, is such a loop again (`primitive.py`): what was taken by rows is
given by rows, and what was shared is added up,

    cx[r_k] = J_k^T cy[r_k]      cw = sum over k of J_k^T cy[r_k] + G_k^T cs

so a loop that skips blocks has derivatives that skip them, of any order.

A block is linearized once, when it is traced (`jax.linearize` of `f` on one block's shapes; see
"You only linearize once", Radul et al. 2022). The trace shows what the coefficients need of the
forward pass: shared arrays and rows of operands are simply taken again, what depends on shared
arrays alone is computed once, and the rest is stacked, an entry a block, so that `(rows, features)`
of a block becomes `(blocks, rows, features)`. Stacked are results of products and the like; what
follows from them elementwise is computed again, which is faster than writing and reading it. Of
phases that exclude each other one keeps anything at all, so that they share the memory for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tdjax.core.jaxpr import bind, is_literal
from tdjax.independence.rules.rule import Cost, traits_of
from tdjax.strategies.row_loop.loop import Input, Kind, Loop, Output, Phase
from tdjax.strategies.rows.recomputing import recomputing

Linear = Callable[[Sequence[Any]], tuple[Loop, list[Any], list[int]]]


class Distinct:
    """A list of arrays, each once."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def place(self, value: Any) -> int:
        """Return where an array is, appended if it is new."""
        for index, known in enumerate(self.values):
            if known is value:
                return index
        self.values.append(value)
        return len(self.values) - 1


def linearized(
    loop: Loop, operands: Sequence[Any], tangents: Mapping[int, Any]
) -> tuple[Loop, Linear]:
    """Return the forward pass and its linear map.

    Args:
        loop: what is differentiated.
        operands: its operands.
        tangents: those of the operands that move.

    Returns:
        A loop over the same operands, whose first outputs are those of `loop`; and a function that
        takes what it returns, and gives the loop of tangents, its operands, and which outputs they
        are the tangents of.
    """
    store = _Store(loop)
    halves = [_halve(phase, operands, set(tangents), store) for phase in loop.phases]
    forward = loop.instead([half.forward for half in halves], store.outputs)

    def linear(results: Sequence[Any]) -> tuple[Loop, list[Any], list[int]]:
        moved = sorted({place for half in halves for place in half.moved})
        found = Distinct()
        phases = [half.linear(operands, tangents, results, moved, found) for half in halves]
        made = loop.instead(phases, [loop.outputs[place] for place in moved])
        return made, found.values, moved

    return forward, linear


@dataclasses.dataclass(frozen=True)
class _Stored:
    """What a block keeps for its linear map.

    Attributes:
        place: the output of the forward pass that holds it.
        shape: its own, where that holds it flat; None where every block has an entry there.
    """

    place: int
    shape: tuple[int, ...] | None = None

    def given(self, value: Any, output: Output) -> Any:
        """Return a value as the block gives it to that output."""
        if self.shape is None:
            return value
        (size,), zero = output.aval.shape, jnp.zeros((), value.dtype)
        return lax.pad(value.reshape(-1), zero, [(0, size - value.size, 0)])

    def taken(self, value: Any) -> Any:
        """Return the value that a block takes again."""
        if self.shape is None:
            return value
        return value[: math.prod(self.shape)].reshape(self.shape)


class _Store:
    """The outputs of a forward pass: those of its loop, and behind them what blocks keep."""

    def __init__(self, loop: Loop) -> None:
        self.outputs = list(loop.outputs)
        self._exclusive = loop.exclusive
        self._shared: dict[tuple[Any, int], int] = {}

    def keep(self, phase: Phase, avals: Sequence[Any]) -> list[_Stored]:
        """Return where a phase keeps values of these types; see above."""
        if not self._exclusive:
            first = len(self.outputs)
            self.outputs += map(phase.stacked, avals)
            return [_Stored(first + k) for k in range(len(avals))]
        numbers: Counter[Any] = Counter()
        return [self._share(aval, numbers) for aval in avals]

    def _share(self, aval: Any, numbers: Counter[Any]) -> _Stored:
        number, size = numbers[aval.dtype], math.prod(aval.shape)
        numbers[aval.dtype] += 1
        place = self._shared.setdefault((aval.dtype, number), len(self.outputs))
        if place < len(self.outputs):
            size = max(size, *self.outputs.pop(place).aval.shape)
        self.outputs.insert(place, Output(Kind.KEPT, jax.ShapeDtypeStruct((size,), aval.dtype)))
        return _Stored(place, aval.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class _Half:
    """A phase and its linear map.

    Attributes:
        phase: the phase.
        forward: it, giving what the map needs as well.
        needed: what the map needs: what a block takes of an operand, an array that is computed
            once, or what the forward pass keeps.
        moving: the inputs that it is a map of.
        tree: makes the map of what it needs.
        moved: the outputs of the loop that it gives tangents of.
    """

    phase: Phase
    forward: Phase
    needed: tuple[Any, ...] = ()
    moving: tuple[Input, ...] = ()
    tree: Any = None
    moved: tuple[int, ...] = ()

    def linear(
        self,
        operands: Sequence[Any],
        tangents: Mapping[int, Any],
        results: Sequence[Any],
        outputs: Sequence[int],
        found: Distinct,
    ) -> Phase:
        """Return the phase of tangents; `outputs` are those of its loop."""
        if not self.moving:
            return self.phase.idle()
        inputs = []
        for each in self.needed:
            if isinstance(each, Input):
                place = found.place(operands[each.operand])
                inputs.append(dataclasses.replace(each, operand=place))
            elif isinstance(each, _Stored):
                kind = Kind.STACKED if each.shape is None else Kind.KEPT
                inputs.append(Input(found.place(results[each.place]), kind))
            else:
                inputs.append(Input(found.place(each), Kind.SHARED))
        for each in self.moving:
            place = found.place(tangents[each.operand])
            inputs.append(Input(place, each.kind, zeroed=each.kind.has_rows))

        def function(values: Sequence[Any]) -> list[Any]:
            needed = [
                each.taken(value) if isinstance(each, _Stored) else value
                for each, value in zip(self.needed, values, strict=False)
            ]
            return list(jax.tree.unflatten(self.tree, needed)(*values[len(needed) :]))

        places = tuple(outputs.index(place) for place in self.moved)
        return dataclasses.replace(
            self.phase, function=function, inputs=tuple(inputs), outputs=places
        )


def _halve(phase: Phase, operands: Sequence[Any], moving: set[int], store: _Store) -> _Half:
    """Return a phase and its linear map, for which it keeps values in a store."""
    chosen = [k for k, each in enumerate(phase.inputs) if each.operand in moving]
    if not chosen or not phase.outputs:
        return _Half(phase, phase)
    specs = [phase.taken(each, operands[each.operand]) for each in phase.inputs]
    closed, tree, exact = _trace(phase, chosen, specs)
    jaxpr = getattr(closed, "jaxpr", closed)
    varying = _varying(jaxpr, phase.inputs)
    taken = dict(zip(jaxpr.invars, phase.inputs, strict=True))
    atoms = jaxpr.outvars[len(phase.outputs) :]
    own = [None if is_literal(atom) or atom not in varying else atom for atom in atoms]
    distinct = [atom for atom in dict.fromkeys(own) if atom is not None and atom not in taken]
    kept = dict(zip(distinct, store.keep(phase, [a.aval for a in distinct]), strict=True))
    needed: list[Any] = []
    for atom in atoms:
        if not is_literal(atom) and atom in taken:
            needed.append(taken[atom])
        elif is_literal(atom) or atom not in kept:
            needed.append(_once(closed, atom, phase, operands))
        else:
            needed.append(kept[atom])
    evaluate = _evaluator(closed, [*jaxpr.outvars[: len(phase.outputs)], *kept])

    def function(values: Sequence[Any]) -> list[Any]:
        found = evaluate(values)
        first = len(phase.outputs)
        more = zip(kept.values(), found[first:], strict=True)
        return found[:first] + [
            each.given(value, store.outputs[each.place]) for each, value in more
        ]

    forward = dataclasses.replace(
        phase,
        function=function,
        outputs=(*phase.outputs, *(each.place for each in kept.values())),
    )
    moved = tuple(phase.outputs[k] for k in exact)
    inputs = tuple(phase.inputs[k] for k in chosen)
    return _Half(phase, forward, tuple(needed), inputs, tree, moved)


def _trace(phase: Phase, chosen: Sequence[int], specs: Sequence[Any]) -> tuple[Any, Any, list[int]]:
    """Return a trace that gives the outputs of a block and what its linear map needs.

    With it come what makes the map of that, and which outputs it maps to.
    """
    trees: list[Any] = []
    exact: list[int] = []

    def forward(*values: Any) -> tuple[list[Any], list[Any]]:
        def block(*moved: Any) -> tuple[list[Any], list[Any]]:
            merged = {**dict(enumerate(values)), **dict(zip(chosen, moved, strict=True))}
            outputs = list(phase.function([merged[k] for k in range(len(values))]))
            exact[:] = [k for k, y in enumerate(outputs) if jnp.issubdtype(y.dtype, jnp.inexact)]
            return [outputs[k] for k in exact], outputs

        # Inside a loop nothing can be merged with the forward pass.
        kept = recomputing(block, policy=_worth_keeping, prevent_cse=False)
        _, linear, outputs = jax.linearize(kept, *(values[k] for k in chosen), has_aux=True)
        needed, tree = jax.tree.flatten(linear)
        trees.append(tree)
        return outputs, needed

    closed = jax.make_jaxpr(forward)(*specs)
    return closed, trees[0], exact


def _worth_keeping(primitive: Any, *inputs: Any, **_: Any) -> bool:
    # jax.checkpoint rounds what it keeps, and cannot round complex numbers.
    exact = not any(jnp.issubdtype(each.dtype, jnp.complexfloating) for each in inputs)
    return exact and traits_of(primitive).cost is Cost.KEPT


def _varying(jaxpr: Any, inputs: Sequence[Input]) -> set[Any]:
    """Return the variables that depend on what differs between blocks."""
    given = zip(jaxpr.invars, inputs, strict=True)
    found = {variable for variable, each in given if each.kind is not Kind.SHARED}
    for eqn in jaxpr.eqns:
        if any(not is_literal(atom) and atom in found for atom in eqn.invars):
            found.update(eqn.outvars)
    return found


def _once(closed: Any, atom: Any, phase: Phase, operands: Sequence[Any]) -> Any:
    """Return the value of what depends on shared arrays alone."""
    values = [operands[each.operand] if each.kind is Kind.SHARED else None for each in phase.inputs]
    (value,) = _evaluator(closed, [atom])(values)
    return jnp.asarray(value)


def _evaluator(closed: Any, outvars: Sequence[Any]) -> Callable[[Sequence[Any]], list[Any]]:
    """Return a function that evaluates some variables of a trace, and what they need alone."""
    jaxpr, consts = getattr(closed, "jaxpr", closed), closed.consts
    needed = {atom for atom in outvars if not is_literal(atom)}
    eqns = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or not needed.isdisjoint(eqn.outvars):
            needed.update(atom for atom in eqn.invars if not is_literal(atom))
            eqns.append(eqn)
    variables = [*jaxpr.constvars, *jaxpr.invars]

    def evaluate(values: Sequence[Any]) -> list[Any]:
        known = dict(zip(variables, (*consts, *values), strict=True))

        def read(atom: Any) -> Any:
            return atom.val if is_literal(atom) else known[atom]

        for eqn in eqns[::-1]:
            outputs = bind(eqn, [read(atom) for atom in eqn.invars])
            known.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in outvars]

    return evaluate
