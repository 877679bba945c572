"""Folds a program in which some values belong to one step: a key, a scale, a temperature.

Such a value has no rows, so it cannot be folded. The program is evaluated in two halves. `Hoist`
runs what depends on no row, once a step, up to the places where a step's value meets rows (noise of
row shape, a scalar times rows), and lays it out by row. `Folded` runs the rest on rows, in any
blocks. So step t's noise depends on its key alone, whichever strategy runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.call import Call, Program
from tdjax.core.jaxpr import bind, equations_inside, inner_program, is_literal
from tdjax.core.shared import repeated
from tdjax.independence import CONST, STEP, Proof, Rows
from tdjax.independence.rules.random import each_key_alone
from tdjax.independence.rules.rule import Form, Step, traits_of
from tdjax.independence.sizes import sizes_of_one_row
from tdjax.strategies.rows import nested
from tdjax.strategies.rows.layout import fold_leaf, rows_back, rows_first

_CALLS = (Form.CALL, Form.REMAT)


def _has_rows(kinds: Sequence[Any]) -> bool:
    return any(isinstance(kind, Rows) for kind in kinds)


def _meets_rows(step: Step) -> bool:
    """Say whether values of one step and rows come together in an equation."""
    return STEP in step.inputs and (_has_rows(step.inputs) or _has_rows(step.outputs))


def _is_divided(step: Step) -> bool:
    """Say whether either half evaluates a part of an equation."""
    calls = traits_of(step.eqn.primitive).form in _CALLS
    return _meets_rows(step) or (calls and STEP in step.inputs and CONST in step.outputs)


def _used(program: Any) -> Set[Any]:
    """Return the variables that a program reads."""
    atoms = (*program.outvars, *(atom for eqn in program.eqns for atom in eqn.invars))
    return {atom for atom in atoms if not is_literal(atom)}


def _beside_rows(eqn: Any, step: Step, values: list[Any], used: Set[Any]) -> list[Any]:
    """Return the outputs without rows of an equation on rows, as the number of turns of a loop.

    They do not depend on what the rows hold, so that zeros stand in for those.
    """
    outputs = list(zip(eqn.outvars, step.outputs, strict=True))
    wanted = [not isinstance(kind, Rows) and atom in used for atom, kind in outputs]
    given = [
        jnp.zeros(atom.aval.shape, atom.aval.dtype) if isinstance(kind, Rows) else value
        for atom, value, kind in zip(eqn.invars, values, step.inputs, strict=True)
    ]
    if not any(wanted) or any(value is None for value in given):
        return [None] * len(outputs)
    return [value if keep else None for value, keep in zip(bind(eqn, given), wanted, strict=True)]


def _reader(env: dict[Any, Any]) -> Callable[[Any], Any]:
    return lambda atom: atom.val if is_literal(atom) else env.get(atom)


class Hoist:
    """The half that runs once a step; values of one step carry time as leading axis."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.found: list[Any] = []

    def run(self, program: Any, steps: Sequence[Step], consts: Any, inputs: Any) -> list[Any]:
        """Evaluate what depends on no row; `found` collects, by row, what the rows will need.

        Inputs that have rows, or are not known yet, are None, and so are outputs.
        """
        env = dict(zip(program.constvars, consts, strict=True))
        env.update(zip(program.invars, inputs, strict=True))
        read, used = _reader(env), _used(program)
        for eqn, step in zip(program.eqns, steps, strict=True):
            values = [read(atom) for atom in eqn.invars]
            if _has_rows(step.inputs) and STEP not in step.inputs:
                outputs = _beside_rows(eqn, step, values, used)
            else:
                outputs = self._equation(eqn, step, values)
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in program.outvars]

    def _inside(
        self, program: Any, steps: Sequence[Step], values: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        inside = Hoist(self.call)
        jaxpr, consts = nested.program_of(program)
        return inside.run(jaxpr, steps, consts, values), inside.found

    def _equation(self, eqn: Any, step: Step, values: list[Any]) -> list[Any]:
        nothing = [None] * len(eqn.outvars)
        if _is_divided(step) and step.inner:
            outputs, found = self._nested(eqn, step, values)
            self.found += found
            return outputs
        if not _has_rows(step.inputs) and not _has_rows(step.outputs):
            unknown = any(value is None for value in values)
            return nothing if unknown else self._each_step(eqn, step, values)
        if not _meets_rows(step):
            return nothing
        if _has_rows(step.inputs):
            alone = traits_of(eqn.primitive).row_by_row
            for value, kind in zip(values, step.inputs, strict=True):
                if kind is STEP:
                    value = value[:, None] if alone else _along_rows(value, _rows_of(step))
                    self._collect(_for_every_row(value, self.call.batch))
            return nothing
        # The loop's own equation makes as many rows as one step has.
        small = step.eqn.small
        made = values if small is None else self._each_step(small, step, values)
        for value, kind in zip(made, step.outputs, strict=True):
            assert isinstance(kind, Rows)
            self._collect(jax.vmap(lambda one, rows=kind: rows_first(one, rows))(value))
        return nothing

    def _nested(self, eqn: Any, step: Step, values: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return the outputs of a call, loop or branch, and what is found inside."""
        form = traits_of(eqn.primitive).form
        if form in _CALLS:
            return self._inside(inner_program(eqn), step.inner[0], values)
        if form is Form.BRANCH:
            if step.inputs[0] is STEP:
                self._collect(_for_every_row(values[0][:, None], self.call.batch))
            return nested.collect_cond(self._inside, eqn, step, values, self.call.time)
        if len(step.inner) == 2:
            return nested.collect_while(self._inside, eqn, step, values)
        return nested.collect_scan(self._inside, eqn, step, values, self.call.time)

    def _each_step(self, eqn: Any, step: Step, values: list[Any]) -> list[Any]:
        if STEP not in step.inputs:
            return bind(eqn, values)
        stepped = [kind is STEP for kind in step.inputs]
        if any(map(_is_another_in_batches, (eqn, *equations_inside(eqn)))):
            return self._one_by_one(eqn, stepped, values)
        axes = [0 if steps else None for steps in stepped]
        return jax.vmap(lambda *args: bind(eqn, args), axes)(*values)

    def _one_by_one(self, eqn: Any, stepped: list[bool], values: list[Any]) -> list[Any]:
        """Compute for one step after the other what would be something else for all at once."""

        def one(parts: list[Any]) -> list[Any]:
            taken = iter(parts)
            given = (
                next(taken) if steps else value
                for steps, value in zip(stepped, values, strict=True)
            )
            return bind(eqn, list(given))

        keys = [value for steps, value in zip(stepped, values, strict=True) if steps]
        return list(jax.lax.map(one, keys))

    def _collect(self, value: Any) -> None:
        self.found.append(fold_leaf(value, 0, self.call))


class Folded:
    """The half that runs on rows; takes in order what the other half has found."""

    def __init__(self, program: Program, proof: Proof) -> None:
        self.program, self.proof = program, proof

    def __call__(self, consts: Any, leaves: Sequence[Any], found: Sequence[Any]) -> list[Any]:
        """Return the outputs that have rows or are shared by all steps; None for the others."""
        assert self.proof.steps is not None
        return _compute(self.program.jaxpr, self.proof.steps, consts, leaves, iter(found))


def _compute(
    program: Any, steps: Sequence[Step], consts: Any, inputs: Any, found: Iterator[Any]
) -> list[Any]:
    env = dict(zip(program.constvars, consts, strict=True))
    env.update(zip(program.invars, inputs, strict=True))
    read = _reader(env)
    for eqn, step in zip(program.eqns, steps, strict=True):
        values = [read(atom) for atom in eqn.invars]
        env.update(zip(eqn.outvars, _on_rows(eqn, step, values, found), strict=True))
    return [read(atom) for atom in program.outvars]


def _compute_inside(
    program: Any, steps: Sequence[Step], values: list[Any], found: Iterator[Any]
) -> list[Any]:
    jaxpr, consts = nested.program_of(program)
    return _compute(jaxpr, steps, consts, values, found)


def _on_rows(eqn: Any, step: Step, values: list[Any], found: Iterator[Any]) -> list[Any]:
    if STEP not in step.inputs:
        return bind(eqn, values)
    if not _is_divided(step):
        return [None] * len(eqn.outvars)
    if step.inner:
        needed = [next(found) for _ in range(_count(step))]
        return _nested_on_rows(eqn, step, values, needed)
    if _has_rows(step.inputs):
        if traits_of(eqn.primitive).row_by_row:
            given = [
                next(found) if kind is STEP else value
                for value, kind in zip(values, step.inputs, strict=True)
            ]
            return _row_by_row(eqn, step, given)
        rows = _rows_of(step)
        shape = next(
            value.shape for value, kind in zip(values, step.inputs, strict=True) if kind == rows
        )
        spread = [
            _spread(next(found), rows, shape) if kind is STEP else value
            for value, kind in zip(values, step.inputs, strict=True)
        ]
        return bind(eqn, spread)
    return [rows_back(next(found), kind) for kind in step.outputs if isinstance(kind, Rows)]


def _nested_on_rows(eqn: Any, step: Step, values: list[Any], needed: list[Any]) -> list[Any]:
    form = traits_of(eqn.primitive).form
    if form is Form.BRANCH:
        if step.inputs[0] is STEP:
            values, needed = [needed[0], *values[1:]], needed[1:]
        counts = [count_found(steps) for steps in step.inner]
        return nested.compute_cond(_compute_inside, eqn, step, values, needed, counts)
    if form is Form.LOOP and len(step.inner) == 2:
        tested = count_found(step.inner[0])
        return nested.compute_while(_compute_inside, eqn, step, values, needed, tested)
    if form is Form.LOOP:
        return nested.compute_scan(_compute_inside, eqn, step, values, needed)

    def body(values: list[Any], needed: list[Any]) -> list[Any]:
        return _compute_inside(inner_program(eqn), step.inner[0], values, iter(needed))

    if form is Form.CALL:
        return body(values, needed)
    remat = jax.checkpoint(body, policy=eqn.params["policy"], prevent_cse=eqn.params["prevent_cse"])
    return remat(values, needed)


def count_found(steps: Sequence[Step]) -> int:
    """Return how many arrays `Hoist` collects for these equations."""
    return sum(_count(step) for step in steps if _is_divided(step))


def _count(step: Step) -> int:
    if step.inner:
        branches = traits_of(step.eqn.primitive).form is Form.BRANCH
        return sum(map(count_found, step.inner)) + (branches and step.inputs[0] is STEP)
    if _has_rows(step.inputs):
        return sum(kind is STEP for kind in step.inputs)
    return len(step.outputs)


def _is_another_in_batches(eqn: Any) -> bool:
    """Say whether an equation does not do for each of a batch what it does for one alone.

    Some generators give a batch of keys other noise, and a branch that one of them takes is
    computed for all of them, and its gradients are NaN where it is singular for others.
    """
    traits = traits_of(eqn.primitive)
    return traits.form is Form.BRANCH or (traits.draws and not each_key_alone(eqn))


def _rows_of(step: Step) -> Rows:
    """Return where the rows are that an equation takes."""
    return next(kind for kind in step.inputs if isinstance(kind, Rows))


def _along_rows(value: Any, rows: Rows) -> Any:
    """Return values `(time, ...)`, numbers or of size 1 along the rows, as `(time, 1, ...)`."""
    return value[:, None] if value.ndim == 1 else jnp.moveaxis(value, rows.axis + 1, 1)


def _for_every_row(value: Any, batch: Any) -> Any:
    """Return values `(time, 1, ...)` as `(time, batch, ...)`."""
    shape = (value.shape[0], batch, *value.shape[2:])
    return repeated(lambda each: jnp.broadcast_to(each, shape), value)


def _row_by_row(eqn: Any, step: Step, values: list[Any]) -> list[Any]:
    """Return the outputs of an equation that takes every row by itself.

    Args:
        eqn: the equation.
        step: it, with its kinds.
        values: its inputs; what belongs to a step has been given to each of its rows.
    """
    sizes = {name: step.eqn.params[name] for name in traits_of(eqn.primitive).follows}
    params = {**eqn.params, **{name: sizes_of_one_row(value) for name, value in sizes.items()}}
    each = eqn.replace(params=params)
    given = [
        _each_alone(value, kind) if isinstance(kind, Rows) else value
        for value, kind in zip(values, step.inputs, strict=True)
    ]
    axes = [None if kind is CONST else 0 for kind in step.inputs]
    outputs = jax.vmap(lambda *row: bind(each, row), axes)(*given)
    return [
        _together(output, kind) if isinstance(kind, Rows) else output
        for output, kind in zip(outputs, step.outputs, strict=True)
    ]


def _each_alone(value: Any, rows: Rows) -> Any:
    """Return rows leading, each an array of one row, of the same rank as before."""
    lying = rows_first(value, rows)
    if rows == Rows(0):
        return lying[:, None]
    count, *shape = lying.shape
    axis = rows.axis
    return lying.reshape(count, *shape[:axis], rows.outer * rows.inner, *shape[axis + 2 :])


def _together(value: Any, rows: Rows) -> Any:
    """Undo `_each_alone`."""
    if rows == Rows(0):
        return value[:, 0]
    count, *shape = value.shape
    axis = rows.axis
    split = (count, *shape[:axis], rows.outer, rows.inner, *shape[axis + 1 :])
    return rows_back(value.reshape(split), rows)


def _spread(value: Any, rows: Rows, shape: tuple) -> Any:
    """Return what goes with each row as an array that meets the rows where they lie."""
    if value.ndim > 1:
        return jnp.moveaxis(value, 0, rows.axis)
    parts = (rows.outer, value.shape[0], rows.inner)
    along = jnp.broadcast_to(value[None, :, None], parts).reshape(-1)
    return jax.lax.broadcast_in_dim(along, shape, (rows.axis,))
