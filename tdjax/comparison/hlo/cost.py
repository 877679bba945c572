"""What an optimized program costs, by its own text.

Unlike XLA's cost analysis it counts a loop's body as often as the loop runs, and it works for
devices whose compiler gives no analysis. A figure that cannot be known is None: the operations of
an unknown custom call, and all that a loop with an unknown number of trips repeats. Of a branch,
the worst case is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, reduce
from typing import NamedTuple

from tdjax.comparison.hlo.flops import own_flops, repeats
from tdjax.comparison.hlo.memory import moved_between_devices, own_bytes
from tdjax.comparison.hlo.module import Computation, Instruction, Module
from tdjax.comparison.hlo.trips import trip_count

Figure = float | None


class Costs(NamedTuple):
    """Totals of a program or a part of it; None for what is not known.

    Attributes:
        flops: floating point operations.
        bytes_accessed: bytes read and written by its operations.
        comm_bytes: bytes that its collectives carry.
        cycles: the compiler's estimates, where it notes them: TPUs.
    """

    flops: Figure = 0
    bytes_accessed: Figure = 0
    comm_bytes: Figure = 0
    cycles: Figure = 0

    def plus(self, other: Costs) -> Costs:
        """Return what both cost."""
        return self._with(other, lambda a, b: None if a is None or b is None else a + b)

    def worst(self, other: Costs) -> Costs:
        """Return the larger of each figure."""
        return self._with(other, lambda a, b: None if a is None or b is None else max(a, b))

    def times(self, count: Figure) -> Costs:
        """Return what `count` runs cost; a cost of 0 stays 0 where the count is unknown."""
        return self._with(Costs(), lambda a, _: 0 if a == 0 else _product(a, count))

    def _with(self, other: Costs, combine: Callable[[Figure, Figure], Figure]) -> Costs:
        return Costs(*map(combine, self, other))


def costs(module: Module) -> Costs:
    """Return the costs of a program.

    `cycles` is None where the compiler estimates nothing.
    """
    counted = counter_of(module).computation(module.entry)
    return counted._replace(cycles=counted.cycles or None)


@lru_cache(maxsize=1)
def counter_of(module: Module) -> Counter:
    """Return what counts the costs of a program, the same for all who ask one after the other."""
    return Counter(module)


class Counter:
    """Adds up the costs of computations, each of which is read once."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._known: dict[str, Costs] = {}

    def computation(self, computation: Computation) -> Costs:
        """Return the costs of one run."""
        if computation.name not in self._known:
            each = (self._instruction(i, computation) for i in computation.instructions.values())
            self._known[computation.name] = _total(each)
        return self._known[computation.name]

    def _instruction(self, of: Instruction, computation: Computation) -> Costs:
        own = Costs(
            flops=own_flops(of, computation),
            bytes_accessed=own_bytes(of, computation, self._module),
            comm_bytes=moved_between_devices(of, computation),
            cycles=estimated_cycles(of),
        )
        called = [self.computation(name) for name in self._module.called(of)]
        if of.opcode == "while":
            return own.plus(_total(called).times(trip_count(of, computation, self._module)))
        if of.opcode == "conditional":
            worst = called[0]
            for branch in called[1:]:
                worst = worst.worst(branch)
            return own.plus(worst)
        applied = repeats(of, computation)
        if applied is not None:
            flops = (inner.times(count).flops for inner, count in zip(called, applied, strict=True))
            return own.plus(_total(Costs(flops=each) for each in flops))
        if of.opcode == "fusion":
            # Its bytes and cycles are counted already: a fusion runs as one operation.
            return own.plus(_total(Costs(flops=inner.flops) for inner in called))
        return own.plus(_total(called)) if called else own


def estimated_cycles(instruction: Instruction) -> int:
    """Return the cycles that a TPU's compiler estimates for an instruction, 0 for none."""
    if "estimated_cycles" not in instruction.text:
        return 0
    return int(instruction.config.get("window_config", {}).get("estimated_cycles", 0))


def _total(each: Iterable[Costs]) -> Costs:
    return reduce(Costs.plus, each, Costs())


def _product(value: Figure, count: Figure) -> Figure:
    return None if value is None or count is None else value * count
