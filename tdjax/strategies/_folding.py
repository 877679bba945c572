"""The computation of a fold: rows in, in blocks or whole, and steps out."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tdjax._call import Call, Program, as_array
from tdjax._errors import StrategyError
from tdjax.independence import STEP, Kind, Proof, Rows
from tdjax.strategies._blocks import in_blocks
from tdjax.strategies._hoisting import Folded, Hoist
from tdjax.strategies._padding import fill, real_steps, zero
from tdjax.strategies._rows import fold_leaf, repeat, rows_first, unfold


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
        for axis, kind in zip(self.program.out_axes(self.call), self.proof.outputs, strict=True):
            if axis is None and (isinstance(kind, Rows) or kind is STEP):
                raise StrategyError(
                    f"out_axes is None for an output of {self.call.title} that a fold computes row "
                    f"by row; give the axis where its steps are to be stacked, or, if it is the "
                    f'same for every step, use strategy="vmap".'
                )

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
            value = _stack(value, kind, axis, call)
            if zeroed:
                value = zero(value, axis, kind if isinstance(kind, Rows) else None, real)
            stacked.append(value)
        return stacked

    def _on_rows(self, consts: list[Any], leaves: list[Any]) -> list[Any]:
        """Return outputs with their rows, or time, leading."""
        call, outputs = self.call, self.proof.outputs
        where = [i for i, role in enumerate(call.roles) if role == "rows"]
        steps, found = self._once_a_step(consts, leaves)

        def evaluate(rows: list[Any]) -> list[Any]:
            merged = list(leaves)
            for index, value in zip(where, rows[: len(where)], strict=True):
                merged[index] = value
            if "step" in call.roles:
                return Folded(self.program, self.proof)(consts, merged, rows[len(where) :])
            return self.program(consts, merged)

        def rows_of(rows: list[Any]) -> list[Any]:
            return [
                rows_first(value, kind)
                for value, kind in zip(evaluate(rows), outputs, strict=True)
                if isinstance(kind, Rows)
            ]

        with jax.named_scope("tdjax.fold"):
            folded = [fold_leaf(leaves[i], call.time_axis(i), call) for i in where] + found
            if self.block is self.rows or self.block == self.rows:
                whole = (jax.checkpoint(evaluate) if self.remat else evaluate)(folded)
                return [
                    step if kind is STEP else _leading(value, kind)
                    for value, step, kind in zip(whole, steps, outputs, strict=True)
                ]
            if self.proof.steps is None and not all(isinstance(kind, Rows) for kind in outputs):
                steps = evaluate([value[: self.block] for value in folded])
            computed = iter(
                in_blocks(rows_of, folded, self.rows, self.block, self.unroll, self.remat)
            )
        return [
            next(computed) if isinstance(kind, Rows) else step
            for kind, step in zip(outputs, steps, strict=True)
        ]

    def _once_a_step(self, consts: list[Any], leaves: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return the outputs that have no rows, and what values of one step give to the rows."""
        outputs = self.proof.outputs
        needed = "step" in self.call.roles or not all(isinstance(kind, Rows) for kind in outputs)
        if not needed or self.proof.steps is None:
            return [None] * len(outputs), []
        hoist = Hoist(self.call, self.proof)
        once = [
            jnp.moveaxis(leaf, self.call.time_axis(index), 0) if role == "step" else leaf
            for index, (leaf, role) in enumerate(zip(leaves, self.call.roles, strict=True))
        ]
        values = hoist.run(self.program.jaxpr, self.proof.steps, consts, once)
        return [
            value if value is None else as_array(value, aval)
            for value, aval in zip(values, self.program.out_avals, strict=True)
        ], hoist.found


def _leading(value: Any, kind: Kind) -> Any:
    return rows_first(value, kind) if isinstance(kind, Rows) else jnp.asarray(value)


def _stack(value: Any, kind: Kind, axis: int | None, call: Call) -> Any:
    if isinstance(kind, Rows):
        assert axis is not None
        return unfold(value, kind, axis, call)
    if kind is STEP:
        assert axis is not None
        return jnp.moveaxis(value, 0, axis)
    return repeat(value, axis, call.time)
