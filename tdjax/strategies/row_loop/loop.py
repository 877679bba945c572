"""A loop over blocks of chosen rows, whose length is known only at run time.

`jax.lax.scan` runs all of its turns, and `jax.lax.while_loop` has no gradient in reverse mode. So
the loop is a primitive of its own (`primitive.py`), closed under derivatives: the derivative of a
loop over blocks is a loop over the same blocks, which skips what the loop skips and adds up the
gradients of shared arrays in place (`linear.py` derives it). Here is what such a loop consists of,
and what it computes.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tdjax.core.arrays import reshaped, vary, varying


class Kind(enum.Enum):
    """How a block meets an array: what it takes of an operand, or gives to an output.

    `SHARED`: all of it, and what blocks give is added up. `ROWS`: the block's rows. `SPREAD`: the
    rows of an array that has one for several of the loop's rows. `STACKED`: an entry a block.
    `KEPT`: the first entries of a flat array, in which phases that exclude each other keep values.
    """

    SHARED = enum.auto()
    ROWS = enum.auto()
    SPREAD = enum.auto()
    STACKED = enum.auto()
    KEPT = enum.auto()

    @property
    def has_rows(self) -> bool:
        """Whether a block's part has its rows as leading axis."""
        return self in (Kind.ROWS, Kind.SPREAD)


# Kinds of operands that a block takes all of.
_WHOLE = (Kind.SHARED, Kind.KEPT)


@dataclasses.dataclass(frozen=True)
class Input:
    """What a block takes of an operand.

    Attributes:
        operand: which one.
        kind: how.
        zeroed: whether rows that only fill a block are zeros rather than copies of a chosen row.
    """

    operand: int
    kind: Kind
    zeroed: bool = False


@dataclasses.dataclass(frozen=True)
class Output:
    """An output of the loop: how blocks give it, and its shape and type."""

    kind: Kind
    aval: jax.ShapeDtypeStruct

    def zeros(self, spare: int) -> Any:
        """Return what the loop starts from, with rows to spare."""
        shape = self.aval.shape
        if self.kind.has_rows:
            shape = (shape[0] + spare, *shape[1:])
        return jnp.zeros(shape, self.aval.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Phase:
    """Blocks of one size.

    Attributes:
        rows: of a block.
        capacity: how many blocks there can be.
        function: takes what a block takes, and gives what it gives.
        inputs: what a block takes.
        outputs: to which outputs of the loop it gives; a phase that gives nothing does not run.
    """

    rows: int
    capacity: Any
    function: Callable[[Sequence[Any]], Sequence[Any]]
    inputs: tuple[Input, ...]
    outputs: tuple[int, ...]

    def idle(self) -> Phase:
        """Return a phase of the same blocks that does nothing."""
        return dataclasses.replace(self, inputs=(), outputs=())

    def taken(self, given: Input, aval: Any) -> Any:
        """Return the shape and type of what a block takes of an operand."""
        shape = aval.shape if given.kind in _WHOLE else aval.shape[1:]
        return reshaped((self.rows,) * given.kind.has_rows + tuple(shape), aval)

    def stacked(self, aval: Any) -> Output:
        """Return the output to which every block gives an array of its own."""
        shape = (self.capacity, *aval.shape)
        return Output(Kind.STACKED, jax.ShapeDtypeStruct(shape, aval.dtype))


@dataclasses.dataclass(frozen=True, eq=False)
class Loop:
    """What runs: phases one after the other, each on the rows that those before it have left.

    Attributes:
        phases: of blocks.
        outputs: what they give.
        spread: returns the rows of a `SPREAD` array that belong to rows of the loop.
        exclusive: whether one phase runs at most, and takes one turn.
    """

    phases: tuple[Phase, ...]
    outputs: tuple[Output, ...]
    spread: Callable[[Any], Any]
    exclusive: bool = False

    def instead(self, phases: Sequence[Phase], outputs: Sequence[Output]) -> Loop:
        """Return a loop over the same blocks that computes something else."""
        return dataclasses.replace(self, phases=tuple(phases), outputs=tuple(outputs))


def compute(plan: Any, order: Any, *operands: Any, loop: Loop, spare: int = 0) -> list[Any]:
    """Return the outputs; rows that are not chosen are 0.

    Args:
        plan: the number of chosen rows, then the first row and the number of turns of each phase;
            of phases that exclude each other, which one runs, from 1 on, and 0 for none.
        order: the chosen rows, then copies of one of them, as many as a turn takes.
        operands: arrays.
        loop: what to run.
        spare: rows behind those of the outputs, for what is dropped; without them it is written out
            of bounds, which `checkify` would report.
    """
    results = vary([output.zeros(spare) for output in loop.outputs], varying(order))
    turn = functools.partial(_turn, loop, plan[0], order, operands, spare)
    if loop.exclusive:
        branches = [functools.partial(turn, phase, 0, 0) for phase in loop.phases]
        results = lax.switch(plan[1], [lambda results: results, *branches], results)
    else:
        for k, phase in enumerate(loop.phases):
            if phase.outputs:
                each = functools.partial(turn, phase, plan[1 + 2 * k])
                results = lax.fori_loop(0, plan[2 + 2 * k], each, results)
    return [
        result[: result.shape[0] - spare] if spare and output.kind.has_rows else result
        for result, output in zip(results, loop.outputs, strict=True)
    ]


def _turn(
    loop: Loop,
    count: Any,
    order: Any,
    operands: Sequence[Any],
    spare: int,
    phase: Phase,
    first: Any,
    turn: Any,
    results: list[Any],
) -> list[Any]:
    if not phase.outputs:
        return results
    results = list(results)
    start = first + turn * phase.rows
    rows = lax.dynamic_slice_in_dim(order, start, phase.rows)
    live = jnp.arange(phase.rows, dtype=order.dtype) < count - start
    block = _Block(loop.spread, turn, rows, live, spare)
    values = phase.function([block.take(each, operands[each.operand]) for each in phase.inputs])
    for place, value in zip(phase.outputs, values, strict=True):
        results[place] = block.give(loop.outputs[place].kind, results[place], value)
    return results


@dataclasses.dataclass(frozen=True, eq=False)
class _Block:
    """A block at its turn.

    Attributes:
        spread: as in `Loop`.
        index: the number of the block in its phase.
        rows: its rows.
        live: which of them are chosen rows, rather than copies that fill the block.
        spare: as in `compute`.
    """

    spread: Callable[[Any], Any]
    index: Any
    rows: Any
    live: Any
    spare: int

    def take(self, given: Input, operand: Any) -> Any:
        """Return what it takes of an operand."""
        if given.kind in _WHOLE:
            return operand
        if given.kind is Kind.STACKED:
            return lax.dynamic_index_in_dim(operand, self.index, 0, keepdims=False)
        places = self._where(given.kind)
        value = jnp.asarray(operand).at[places].get(mode="promise_in_bounds")
        if not given.zeroed:
            return value
        live = self.live.reshape(-1, *[1] * (value.ndim - 1))
        return jnp.where(live, value, jnp.zeros((), value.dtype))

    def give(self, kind: Kind, result: Any, value: Any) -> Any:
        """Return an output with what the block gives to it."""
        if kind is Kind.SHARED:
            return result + value
        if kind is Kind.STACKED:
            return lax.dynamic_update_index_in_dim(result, value, self.index, 0)
        if kind is Kind.KEPT:
            return vary([value], varying(result))[0]
        nowhere = jnp.full((), result.shape[0] - self.spare, self.rows.dtype)
        places = result.at[jnp.where(self.live, self._where(kind), nowhere)]
        if kind is Kind.SPREAD:
            return places.add(value, mode="drop")
        return places.set(value, mode="drop", unique_indices=True)

    def _where(self, kind: Kind) -> Any:
        return self.spread(self.rows) if kind is Kind.SPREAD else self.rows
