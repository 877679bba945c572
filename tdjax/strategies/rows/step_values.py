"""Folds a program in which some values belong to one step: a key, a scale, a temperature.

Such a value has no rows, so it cannot be folded. The program is evaluated in two halves. `Hoist`
runs what depends on no row, once a step, up to the places where a step's value meets rows (noise of
row shape, a scalar times rows), and lays it out by row. `Folded` runs the rest on rows, in any
blocks. So step t's noise depends on its key alone, whichever strategy runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.call import Call, Program
from tdjax.core.jaxpr import bind, inner_program, is_literal
from tdjax.independence import STEP, Proof, Rows
from tdjax.independence.rules.random import each_key_alone
from tdjax.independence.rules.rule import Form, Step, traits_of
from tdjax.strategies.rows.layout import fold_leaf, rows_back, rows_first

_CALLS = (Form.CALL, Form.REMAT)


def _has_rows(kinds: Sequence[Any]) -> bool:
    return any(isinstance(kind, Rows) for kind in kinds)


def _meets_rows(step: Step) -> bool:
    """Say whether values of one step and rows come together in an equation."""
    return STEP in step.inputs and (_has_rows(step.inputs) or _has_rows(step.outputs))


def _reader(env: dict[Any, Any]) -> Callable[[Any], Any]:
    return lambda atom: atom.val if is_literal(atom) else env.get(atom)


class Hoist:
    """The half that runs once a step; values of one step carry time as leading axis."""

    def __init__(self, call: Call, proof: Proof) -> None:
        self.call, self.proof = call, proof
        self.found: list[Any] = []

    def run(self, jaxpr: Any, steps: Sequence[Step], consts: Any, inputs: Any) -> list[Any]:
        """Evaluate what depends on no row; `found` collects, by row, what the rows will need."""
        env = dict(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))
        read = _reader(env)
        for eqn, step in zip(jaxpr.eqns, steps, strict=True):
            values = [read(atom) for atom in eqn.invars]
            env.update(zip(eqn.outvars, self._equation(eqn, step, values), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn: Any, step: Step, values: list[Any]) -> list[Any]:
        nothing = [None] * len(eqn.outvars)
        if not _has_rows(step.inputs) and not _has_rows(step.outputs):
            return self._each_step(eqn, step, values)
        if not _meets_rows(step):
            return nothing
        if traits_of(eqn.primitive).form in _CALLS:
            inner = inner_program(eqn)
            consts = getattr(inner, "consts", ())
            return self.run(getattr(inner, "jaxpr", inner), step.inner, consts, values)
        if _has_rows(step.inputs):
            for value, kind in zip(values, step.inputs, strict=True):
                if kind is STEP:
                    self._collect(_for_every_row(value, _rows_of(step), self.call.batch))
            return nothing
        # The loop's own equation makes as many rows as one step has.
        small = step.eqn.small
        made = values if small is None else self._each_step(small, step, values)
        for value, kind in zip(made, step.outputs, strict=True):
            assert isinstance(kind, Rows)
            self._collect(jax.vmap(lambda one, rows=kind: rows_first(one, rows))(value))
        return nothing

    def _each_step(self, eqn: Any, step: Step, values: list[Any]) -> list[Any]:
        if STEP not in step.inputs:
            return bind(eqn, values)
        stepped = [kind is STEP for kind in step.inputs]
        if traits_of(eqn.primitive).draws and not each_key_alone(eqn):
            return self._one_by_one(eqn, stepped, values)
        axes = [0 if steps else None for steps in stepped]
        return jax.vmap(lambda *args: bind(eqn, args), axes)(*values)

    def _one_by_one(self, eqn: Any, stepped: list[bool], values: list[Any]) -> list[Any]:
        """Draw for one step after the other, where keys in a batch would give other noise."""

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
        return self._run(self.program.jaxpr, self.proof.steps, consts, leaves, iter(found))

    def _run(
        self, jaxpr: Any, steps: Sequence[Step], consts: Any, inputs: Any, found: Iterator[Any]
    ) -> list[Any]:
        env = dict(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))
        read = _reader(env)
        for eqn, step in zip(jaxpr.eqns, steps, strict=True):
            values = [read(atom) for atom in eqn.invars]
            env.update(zip(eqn.outvars, self._equation(eqn, step, values, found), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn: Any, step: Step, values: list[Any], found: Iterator[Any]) -> list[Any]:
        if STEP not in step.inputs:
            return bind(eqn, values)
        if not _meets_rows(step):
            return [None] * len(eqn.outvars)
        if traits_of(eqn.primitive).form in _CALLS:
            return self._call(eqn, step, values, found)
        if _has_rows(step.inputs):
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

    def _call(self, eqn: Any, step: Step, values: list[Any], found: Iterator[Any]) -> list[Any]:
        inner = inner_program(eqn)
        jaxpr, consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
        if traits_of(eqn.primitive).form is Form.CALL:
            return self._run(jaxpr, step.inner, consts, values, found)
        needed = [next(found) for _ in range(count_found(step.inner))]

        def body(values: list[Any], needed: list[Any]) -> list[Any]:
            return self._run(jaxpr, step.inner, consts, values, iter(needed))

        remat = jax.checkpoint(
            body, policy=eqn.params["policy"], prevent_cse=eqn.params["prevent_cse"]
        )
        return remat(values, needed)


def count_found(steps: Sequence[Step]) -> int:
    """Return how many arrays `Hoist` collects for these equations."""
    total = 0
    for step in steps:
        if not _meets_rows(step):
            continue
        if traits_of(step.eqn.primitive).form in _CALLS:
            total += count_found(step.inner)
        elif _has_rows(step.inputs):
            total += sum(kind is STEP for kind in step.inputs)
        else:
            total += len(step.outputs)
    return total


def _rows_of(step: Step) -> Rows:
    """Return where the rows are that an equation takes."""
    return next(kind for kind in step.inputs if isinstance(kind, Rows))


def _for_every_row(value: Any, rows: Rows, batch: Any) -> Any:
    """Return values `(time, ...)` of size 1 along the rows, or numbers, as `(time, batch, ...)`."""
    value = value[:, None] if value.ndim == 1 else jnp.moveaxis(value, rows.axis + 1, 1)
    return jnp.broadcast_to(value, (value.shape[0], batch, *value.shape[2:]))


def _spread(value: Any, rows: Rows, shape: tuple) -> Any:
    """Return what goes with each row as an array that meets the rows where they lie."""
    if value.ndim > 1:
        return jnp.moveaxis(value, 0, rows.axis)
    parts = (rows.outer, value.shape[0], rows.inner)
    along = jnp.broadcast_to(value[None, :, None], parts).reshape(-1)
    return jax.lax.broadcast_in_dim(along, shape, (rows.axis,))
