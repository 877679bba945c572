"""The operations of a program that only move data, and its loops: where, how often, how much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from tdjax.comparison.hlo.cost import counter_of
from tdjax.comparison.hlo.memory import own_bytes
from tdjax.comparison.hlo.module import Computation, Instruction, Module
from tdjax.comparison.hlo.opcodes import COLLECTIVES, IDLE_CALLS, MOVEMENT
from tdjax.comparison.hlo.place import Place, find_place, find_place_near
from tdjax.comparison.hlo.trips import trip_count
from tdjax.core.typed import Count, one_of

KINDS = ("transpose", "copy", "gather", "scatter", "loop", "collective", "custom call")


@dataclass(frozen=True)
class Movement:
    """Operations of one kind that come from one place.

    Attributes:
        kind: one of `KINDS`. A "transpose" changes the order in memory, a "copy" does not.
        what: what it does: an order, the name of a collective or of a custom call.
        place: where it comes from.
        count: how often they run, all together; None where a loop's trips are unknown.
        bytes: how much they read and write, all together. Inside a fusion that computes as
            well: what passes through them. A loop: everything inside it.
    """

    kind: Annotated[str, one_of(*KINDS)]
    what: str
    place: Place
    count: Count | None
    bytes: Count | None


@dataclass(frozen=True)
class Steps:
    """The sizes by which an array's batch and time axes are recognized."""

    batch: int
    time: int

    def names(self, sizes: Sequence[int]) -> dict[int, str]:
        """Return a name for those of an array's sizes that no other axis shares."""
        named = {self.batch: "batch", self.time: "time", self.batch * self.time: "rows"}
        if len(named) < 3:  # Equal sizes, or one of them is 1.
            return {}
        return {size: name for size, name in named.items() if sizes.count(size) == 1}


def movements(module: Module, steps: Steps | None = None) -> tuple[Movement, ...]:
    """Return what moves data in a program, the largest first.

    Args:
        module: the program.
        steps: batch and time size, to name the axes that move.
    """
    reader = _MovementReader(module, steps)
    served = _contractions(module)
    found: dict[tuple[str, str, Place], Movement] = {}
    for each in reader.computation(module.entry, 1):
        where = each.place
        if where.op in _REARRANGING:
            where = replace(where, op=served.get(replace(where, op=None), where.op))
        key = (each.kind, each.what, where)
        each = replace(each, place=where)
        before = found.get(key)
        found[key] = each if before is None else _joined(before, each)
    return tuple(sorted(found.values(), key=lambda m: -(m.bytes or 0)))


# A layer's line has the operation itself and what brings its operands into shape. vmap adds more
# of the latter, under the same name.
_REARRANGING = ("broadcast_in_dim", "reshape", "squeeze", "transpose")
_CONTRACTIONS = ("conv_general_dilated", "dot_general")


def _contractions(module: Module) -> dict[Place, str]:
    """Return the convolution or product of every place that has one kind of them only."""
    found: dict[Place, set[str]] = {}
    for computation in module.computations.values():
        for instruction in computation.instructions.values():
            if any(name in instruction.text for name in _CONTRACTIONS):
                where = find_place(instruction, module)
                if where.op in _CONTRACTIONS:
                    found.setdefault(replace(where, op=None), set()).add(where.op)
    return {where: next(iter(ops)) for where, ops in found.items() if len(ops) == 1}


def _joined(one: Movement, other: Movement) -> Movement:
    count = None if one.count is None or other.count is None else one.count + other.count
    size = None if one.bytes is None or other.bytes is None else one.bytes + other.bytes
    return replace(one, count=count, bytes=size)


class _MovementReader:
    """Finds movements, with how often each runs."""

    def __init__(self, module: Module, steps: Steps | None) -> None:
        self._module = module
        self._steps = steps
        self._costs = counter_of(module)

    def computation(self, computation: Computation, times: int | None) -> Iterator[Movement]:
        """Yield the movements of a computation that runs `times` times."""
        for instruction in computation.instructions.values():
            yield from self._instruction(instruction, computation, times)

    def _instruction(
        self, of: Instruction, computation: Computation, times: int | None
    ) -> Iterator[Movement]:
        opcode = of.opcode.removesuffix("-start")
        if opcode == "while":
            yield from self._loop(of, computation, times)
        elif opcode == "fusion":
            yield from self._fusion(of, computation, times)
        elif opcode in ("call", "conditional", "async"):
            for called in self._module.called(of):
                yield from self.computation(called, times)
        elif (kind := self._kind(of, computation)) is not None:
            size = own_bytes(of, computation, self._module)
            where = find_place_near(of, computation, self._module)
            yield _movement(*kind, where, size, times)

    def _loop(
        self, loop: Instruction, computation: Computation, times: int | None
    ) -> Iterator[Movement]:
        trips = trip_count(loop, computation, self._module)
        runs = None if trips is None or times is None else trips * times
        called = self._module.called(loop)
        sizes = [self._costs.computation(each).bytes_accessed for each in called]
        once = None if None in sizes else int(sum(size or 0 for size in sizes))
        where = find_place_near(loop, computation, self._module)
        yield _movement("loop", "while", where, once, runs)
        for each in called:
            yield from self.computation(each, runs)

    def _fusion(
        self, fusion: Instruction, computation: Computation, times: int | None
    ) -> Iterator[Movement]:
        where = find_place_near(fusion, computation, self._module)
        inner = list(self._fused(fusion, where, times))
        if inner and self._only_moves(fusion):
            # The whole fusion moves data: its parts share what it reads and writes.
            size = own_bytes(fusion, computation, self._module)
            share = None if times is None else size * times // len(inner)
            inner = [replace(movement, bytes=share) for movement in inner]
        yield from inner

    def _fused(self, fusion: Instruction, outer: Place, times: int | None) -> Iterator[Movement]:
        for fused in self._module.called(fusion):
            for of in fused.instructions.values():
                if of.opcode == "fusion":
                    yield from self._fused(of, outer, times)
                elif (kind := self._kind(of, fused)) is not None:
                    where = find_place_near(of, fused, self._module)
                    where = outer if where == Place() else where
                    yield _movement(*kind, where, of.shape.bytes, times)

    def _kind(self, of: Instruction, computation: Computation) -> tuple[str, str] | None:
        """Return the kind of a movement and what it does; None for another instruction."""
        opcode = of.opcode.removesuffix("-start")
        if opcode in COLLECTIVES:
            return "collective", opcode
        if of.opcode in ("gather", "scatter"):
            return of.opcode, of.opcode
        if of.opcode == "custom-call":
            target = of.quoted("custom_call_target")
            return None if target in IDLE_CALLS else ("custom call", target)
        return self._order(of, computation)

    def _only_moves(self, fusion: Instruction) -> bool:
        inner = (i for fused in self._module.called(fusion) for i in fused.instructions.values())
        return all(
            self._only_moves(of) if of.opcode == "fusion" else of.opcode in MOVEMENT for of in inner
        )

    def _order(self, of: Instruction, computation: Computation) -> tuple[str, str] | None:
        """Return kind and order of a copy or transpose; None for one that moves nothing."""
        if of.opcode not in ("copy", "transpose") or of.shape.elements <= 1:
            return None
        (operand,) = computation.operands(of)
        sizes, before = operand.shape.sizes, operand.shape.in_memory
        axes = of.integers("dimensions") if of.opcode == "transpose" else range(len(sizes))
        after = tuple(axes[axis] for axis in of.shape.in_memory)
        before, after = (tuple(a for a in order if sizes[a] > 1) for order in (before, after))
        if before != after:
            return "transpose", self._described(sizes, before, after)
        return ("copy", "as it lies") if of.opcode == "copy" else None

    def _described(
        self, sizes: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]
    ) -> str:
        names = {} if self._steps is None else self._steps.names([sizes[axis] for axis in before])
        shown = {axis: names.get(sizes[axis], str(sizes[axis])) for axis in before}
        axes = {name: axis for axis, name in shown.items()}
        if "batch" in axes and "time" in axes:
            first, last = (
                order.index(axes["time"]) < order.index(axes["batch"]) for order in (before, after)
            )
            if first != last:
                return "time before batch" if last else "batch before time"
        orders = (",".join(shown[axis] for axis in order) for order in (before, after))
        return "({}) to ({}) in memory".format(*orders)


def _movement(kind: str, what: str, where: Place, size: int | None, times: int | None) -> Movement:
    total = None if size is None or times is None else size * times
    return Movement(kind, what, where, times, total)
