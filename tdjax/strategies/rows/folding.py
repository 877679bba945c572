"""The computation of a fold: rows in, in blocks or whole, and steps out.

The loop gives f(X_t) for each step t, with rows X_t[b]. If rows are independent, there is a g with
f(X)[b] = g(X[b]) for any number of rows. Let R hold the rows of all steps, `R[b T + t] = X_t[b]`.
Then f(R)[b T + t] = g(X_t[b]) = f(X_t)[b]: split again, it is the loop's answer, whichever way the
rows are ordered, and whether f is called on all of R or on blocks of it.

    x (4, 3, 6)  ->  rows (12, 6)  ->  3 blocks (5, 6), 3 rows too many  ->  (12, 2)  ->  (4, 3, 2)

Three things need care. A value of one step (a key, a scale) has no rows; what follows from it alone
is computed once a step, and given to each of the step's rows (`once_a_step`). An output may have
its rows anywhere, `Rows(axis, outer, inner)`; `rows_first` and `stack` bring them to the front and
back. And an output without rows is the same for any block: it is taken from one of them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.call import Call, Program
from tdjax.core.shared import split
from tdjax.independence import STEP, Kind, Proof, Rows
from tdjax.strategies.rows.blocks import in_blocks
from tdjax.strategies.rows.layout import fold_leaf, rows_first
from tdjax.strategies.rows.outputs import check_stacked, evaluate, once_a_step, stack
from tdjax.strategies.rows.padding import fill, real_steps, zero
from tdjax.strategies.rows.recomputing import recomputing


@dataclasses.dataclass(frozen=True, eq=False)
class Folding:
    """A call, the trace of its step on `block` rows, and how to run it on all `rows`."""

    call: Call
    program: Program
    proof: Proof
    rows: Any
    block: Any
    unroll: bool | int
    remat: bool

    def __post_init__(self) -> None:
        check_stacked(self.call, self.program, self.proof)

    def __call__(self, consts: list[Any], leaves: list[Any], mask: Any) -> list[Any]:
        """Return the outputs, steps stacked, masked ones zero if they are to be."""
        call, outputs = self.call, self.proof.outputs
        zeroed = mask is not None and call.masked_output == "zero"
        real = real_steps(mask) if zeroed else None
        if zeroed and self.proof.independent:
            consts, leaves = fill(call, real, consts, leaves)
        values = self._on_rows(consts, leaves)
        stacked = []
        for value, kind, axis in zip(values, outputs, self.program.out_axes(call), strict=True):
            value = stack(value, kind, axis, call)
            if zeroed:
                value = zero(value, axis, kind if isinstance(kind, Rows) else None, real)
            stacked.append(value)
        return stacked

    def _on_rows(self, consts: list[Any], leaves: list[Any]) -> list[Any]:
        """Return outputs with their rows, or time, leading."""
        call, outputs = self.call, self.proof.outputs
        where = [i for i, role in enumerate(call.roles) if role == "rows"]
        whole = self.block is self.rows or self.block == self.rows
        shared = [None if i in where else leaf for i, leaf in enumerate(leaves)]
        if not whole:
            shared, consts = [*map(split, shared)], [*map(split, consts)]
        steps, found = once_a_step(call, self.program, self.proof, consts, shared)

        def evaluated(rows: list[Any]) -> list[Any]:
            merged = list(shared)
            for index, value in zip(where, rows, strict=False):
                merged[index] = value
            more = rows[len(where) :]
            return evaluate(call, self.program, self.proof, consts, merged, more)

        def rows_of(rows: list[Any]) -> list[Any]:
            return [
                rows_first(value, kind)
                for value, kind in zip(evaluated(rows), outputs, strict=True)
                if isinstance(kind, Rows)
            ]

        with jax.named_scope("tdjax.fold"):
            folded = [fold_leaf(leaves[i], call.time_axis(i), call) for i in where] + found
            if whole:
                values = (recomputing(evaluated) if self.remat else evaluated)(folded)
                return [
                    step if kind is STEP else _leading(value, kind)
                    for value, step, kind in zip(values, steps, outputs, strict=True)
                ]
            if self.proof.steps is None and not all(isinstance(kind, Rows) for kind in outputs):
                steps = evaluated([value[: self.block] for value in folded])
            computed = iter(
                in_blocks(rows_of, folded, self.rows, self.block, self.unroll, self.remat)
            )
        return [
            next(computed) if isinstance(kind, Rows) else step
            for kind, step in zip(outputs, steps, strict=True)
        ]


def _leading(value: Any, kind: Kind) -> Any:
    return rows_first(value, kind) if isinstance(kind, Rows) else jnp.asarray(value)
