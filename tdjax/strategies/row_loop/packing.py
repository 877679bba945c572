"""The computation of packed steps: the rows that a mask keeps, in blocks, and steps out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.arrays import keys_of, words_of
from tdjax.core.call import Call, Program
from tdjax.core.shared import split
from tdjax.independence import Proof, Rows
from tdjax.strategies.row_loop.loop import Input, Kind, Loop, Output, Phase
from tdjax.strategies.row_loop.primitive import run
from tdjax.strategies.rows.layout import fold_leaf, rows_first, time_leads
from tdjax.strategies.rows.outputs import check_stacked, evaluate, has_steps, once_a_step, stack
from tdjax.strategies.rows.padding import fill, real_steps, zero

_KINDS = {"rows": Kind.ROWS, "spread": Kind.SPREAD, "step": Kind.SHARED, "shared": Kind.SHARED}


@dataclasses.dataclass(frozen=True, eq=False)
class Packing:
    """A call, and traces of its step on the rows of a block: a large one, perhaps a small one.

    Rows are taken in large blocks as long as they fill more than half of one; what is left is taken
    in small ones. Or all are taken at once, by as many blocks side by side as hold them, of the
    numbers of blocks in `at_once`.
    """

    call: Call
    programs: tuple[Program, ...]
    proof: Proof
    at_once: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_stacked(self.call, self.programs[0], self.proof)

    def __call__(self, consts: list[Any], leaves: list[Any], mask: Any) -> list[Any]:
        """Return the outputs, steps stacked, masked ones zero."""
        call, proof, real = self.call, self.proof, real_steps(mask)
        program = self.programs[0]
        once: list[Any] = [None] * len(proof.outputs)
        found: list[Any] = []
        if has_steps(call, proof):
            filled = fill(call, real, consts, leaves)
            once, found = once_a_step(call, program, proof, *filled)
        with jax.named_scope("tdjax.packed"):
            computed = iter(self._on_rows(consts, leaves, found, real))
        stacked = []
        for value, kind, axis in zip(once, proof.outputs, program.out_axes(call), strict=True):
            if isinstance(kind, Rows):
                stacked.append(stack(next(computed), kind, axis, call))
            else:
                stacked.append(zero(stack(value, kind, axis, call), axis, None, real))
        return stacked

    def _on_rows(
        self, consts: list[Any], leaves: list[Any], found: list[Any], real: Any
    ) -> list[Any]:
        """Return the outputs that have rows, those leading."""
        call, lead, rows = self.call, time_leads(self.call), self.call.batch * self.call.time
        folded = [
            fold_leaf(leaf, call.time_axis(index), call) if role == "rows" else leaf
            for index, (leaf, role) in enumerate(zip(leaves, call.roles, strict=True))
        ]
        given = [*map(jnp.asarray, consts), *folded, *found]
        kinds = [Kind.SHARED] * len(consts) + [_KINDS[role] for role in call.roles]
        kinds += [Kind.ROWS] * len(found)
        given = [
            split(value) if kind is Kind.SHARED else value
            for value, kind in zip(given, kinds, strict=True)
        ]
        kinds = [
            kind for value, kind in zip(given, kinds, strict=True) for _ in jax.tree.leaves(value)
        ]
        inputs = tuple(Input(index, kind) for index, kind in enumerate(kinds))
        outputs = self._row_outputs(rows)
        operands, tree = jax.tree.flatten(given)
        types = [jax.typeof(operand) for operand in operands]
        phases = tuple(
            Phase(
                program.rows * count,
                capacity,
                _side_by_side(
                    self._function(program, types, tree, len(consts), len(leaves)), inputs, count
                ),
                inputs,
                tuple(range(len(outputs))),
            )
            for program, count, capacity in self._sizes(rows)
        )
        loop = Loop(
            phases,
            tuple(Output(Kind.ROWS, jax.eval_shape(words_of, aval)) for aval in outputs),
            (lambda index: index % call.batch) if lead else (lambda index: index // call.time),
            exclusive=bool(self.at_once),
        )
        plan, order = self._plan((real.T if lead else real).reshape(-1), rows)
        results = run(loop, plan, order, [words_of(operand) for operand in operands])
        return [keys_of(value, aval) for value, aval in zip(results, outputs, strict=True)]

    def _function(
        self, program: Program, types: Sequence[Any], tree: Any, consts: int, leaves: int
    ) -> Callable[[Sequence[Any]], list[Any]]:
        """Return what computes a block."""
        first, last = consts, consts + leaves

        def function(values: Sequence[Any]) -> list[Any]:
            each = (keys_of(value, aval) for value, aval in zip(values, types, strict=True))
            given = jax.tree.unflatten(tree, each)
            parts = given[:first], given[first:last], given[last:]
            outputs = evaluate(self.call, program, self.proof, *parts)
            return [
                words_of(rows_first(value, kind))
                for value, kind in zip(outputs, self.proof.outputs, strict=True)
                if isinstance(kind, Rows)
            ]

        return function

    def _row_outputs(self, rows: Any) -> list[Any]:
        """Return the shapes and types of outputs that have rows, for all of them."""
        avals = []
        for aval, kind in zip(self.programs[0].out_avals, self.proof.outputs, strict=True):
            if isinstance(kind, Rows):
                block = jax.eval_shape(functools.partial(rows_first, rows=kind), aval)
                avals.append(jax.ShapeDtypeStruct((rows, *block.shape[1:]), block.dtype))
        return avals

    def _sizes(self, rows: Any) -> list[tuple[Program, int, Any]]:
        """Return each program, how many blocks run side by side, and how often they can."""
        large, *others = self.programs
        if self.at_once:
            return [(large, count, 1) for count in self.at_once]
        found = [(large, 1, -(-rows // large.rows))]
        return found + [(small, 1, -(-(large.rows // 2) // small.rows)) for small in others]

    def _plan(self, real: Any, rows: Any) -> tuple[Any, Any]:
        """Return the plan and the order of a loop over the rows that are real."""
        count = real.sum(dtype=jnp.int32)
        block = self.programs[0].rows
        numbers = jnp.arange(rows, dtype=jnp.int32)
        length = max(block * self.at_once[-1], rows) if self.at_once else rows + block
        place = jnp.where(real, jnp.cumsum(real, dtype=jnp.int32) - 1, jnp.int32(length))
        # What no row is written to, and is left over, is a copy of the first real one.
        order = jnp.full(length + 1, jnp.argmax(real), jnp.int32)
        order = order.at[place].set(numbers, mode="drop", unique_indices=True)[:length]
        if self.at_once:
            most = jnp.array([block * each for each in (0, *self.at_once[:-1])], jnp.int32)
            return jnp.stack([count, (count > most).sum(dtype=jnp.int32)]), order
        least = 0 if len(self.programs) == 1 else block // 2
        turns = count // block
        turns = turns + (count - turns * block > least).astype(jnp.int32)
        plan = [count, jnp.int32(0), turns]
        for small in self.programs[1:]:
            left = jnp.maximum(count - turns * block, 0)
            plan += [turns * block, -(-left // small.rows)]
        return jnp.stack(plan), order


def _side_by_side(
    function: Callable[[Sequence[Any]], list[Any]], inputs: Sequence[Input], count: int
) -> Callable[[Sequence[Any]], list[Any]]:
    """Return what computes several blocks at once.

    A step need not be traced on their rows for that, nor proven again.
    """
    if count == 1:
        return function
    axes = [0 if each.kind.has_rows else None for each in inputs]
    mapped = jax.vmap(lambda *values: function(values), axes, axis_size=count)

    def blocks(values: Sequence[Any]) -> list[Any]:
        apart = (
            value if axis is None else value.reshape(count, -1, *value.shape[1:])
            for value, axis in zip(values, axes, strict=True)
        )
        return [each.reshape(-1, *each.shape[2:]) for each in mapped(*apart)]

    return blocks
