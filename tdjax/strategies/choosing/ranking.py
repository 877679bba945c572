"""Which strategy would be fastest, by prediction.

The choice is not simply the smallest predicted time, because predictions err. Let c be the
predicted time of a strategy, b the smallest of them all, and p that of the plain choice, the first
of those that are given: a whole fold.

1. All with c <= 1.05 b count as level: which of them is fastest is not known. If p is among them,
   the plain choice stays.
2. Otherwise the one of them with the least effort is taken: first what is written out least (loops
   are written once, unrolled blocks one by one), which compiles fastest, then what recomputes
   nothing in the backward pass, then what has the fewest blocks.
3. What takes more than five times as long to trace and compile as the plain choice
   (`tdjax.costs.compiling`) must be worth that: it is left out, unless it saves a tenth of the time
   of what 1 and 2 take of the others.

For example, in ms: fold 10, Fold(64) 8.0, Fold(64, unroll) 7.9, Fold(32) 8.2. Here b = 7.9, and
p = 10 is above 1.05 b = 8.3, so that the plain choice goes. The others are level. The two loops are
written once, none recomputes, and of these Fold(64) has fewer blocks.

A loop whose blocks fill more than a quarter of the cache that cores share is taken to last a tenth
longer than predicted: others use it, too. Of lookups, blocks of 13 MB took 4.0 ms and of 3 MB 2.8
on a machine that was busy, both 2.2 where it was not (Zen 4, 32 MB).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from tdjax.costs.compiling import compile_size
from tdjax.costs.machine import Machine
from tdjax.costs.memory import most_bytes
from tdjax.costs.predict import forward_s, gradient_s, seconds_in
from tdjax.costs.work import Work
from tdjax.strategies.base import KINDS, Strategy

# Predicted times within this factor of the best cannot be told from it.
LEVEL = 1.05
# The part of the shared cache that blocks may fill, and how much longer they last beyond it.
_SHARE, _CROWDED = 0.25, 1.1
# What takes more than so many times as long to compile as the plain choice may take this part of
# the time of what does not.
MOST_TIMES = 5.0
WORTH_COMPILING = 0.9


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A strategy with its predicted cost.

    Attributes:
        strategy: the strategy.
        forward_s: seconds of the forward pass.
        gradient_s: seconds of the forward pass and the gradient of everything.
        most_bytes: temporary memory that it takes at most, with the gradient if that counts.
        compile_times: how many times as long it takes to trace and compile as the plain choice.
        effort: what makes it more of a program than another: how often the step is written out,
            whether a gradient recomputes blocks, and how many blocks there are.
    """

    strategy: Strategy
    forward_s: float
    gradient_s: float
    most_bytes: float
    compile_times: float = 1.0
    effort: tuple[int, bool, int] = (1, False, 1)

    def cost(self, mode: str) -> float:
        """Return what it is ranked by: the time of a mode, or the sum of both."""
        return seconds_in(mode, self.forward_s, self.gradient_s)


def candidates(
    batch: int, time: int, remat: bool = False, operations: int = 1, own_forms: bool = False
) -> list[Strategy]:
    """Return the strategies to choose among: what each kind offers and can be predicted, each once.

    Plain programs come first, then single blocks, then several; of each, folds come first.

    Args:
        batch: rows of a step.
        time: steps.
        remat: also the looped forms that recompute their blocks in the backward pass.
        operations: how many a block has; more than 500 of them are not written out.
        own_forms: also the whole as a single block, with tdjax's own forms of convolutions and
            pooling.
    """
    found = {}
    for kind in KINDS.values():
        for strategy in kind.candidates(batch, time, remat, operations, own_forms):
            blocks = strategy.blocks(batch, time)
            if blocks is not None:
                found[strategy] = blocks.count > 1, not blocks.plain, not strategy.folds
    return sorted(found, key=found.__getitem__)


def times_written(strategy: Strategy, batch: int, time: int) -> int:
    """Return how many times a program has the step: once for a loop, else once a block."""
    blocks = strategy.blocks(batch, time)
    return 1 if blocks is None or blocks.looped else blocks.count


def ranked(
    among: Iterable[Strategy], work: Work, batch: int, time: int, machine: Machine, mode: str
) -> list[Candidate]:
    """Return strategies with their predicted costs, the one to run first; see above.

    Args:
        among: the strategies, the plain choice first.
        work: what a row costs.
        batch: rows of a step.
        time: steps.
        machine: where it runs.
        mode: "forward", "grad" for one with its gradient, or "both" for the sum of these.
    """
    given: list[Candidate] = []
    least = 0.0
    for strategy in among:
        blocks = strategy.blocks(batch, time)
        assert blocks is not None
        size = compile_size(blocks, work, machine)
        crowds = 0 < _SHARE * machine.far_bytes < blocks.rows * work.live_bytes
        longer = _CROWDED if crowds and blocks.looped else 1.0
        least = least or size
        given.append(
            Candidate(
                strategy,
                longer * forward_s(blocks, work, machine),
                longer * gradient_s(blocks, work, machine),
                most_bytes(blocks, work, mode != "forward"),
                size / least,
                (times_written(strategy, batch, time), blocks.remat, blocks.count),
            )
        )
    return best_first(given, mode)[0]


def best_first(given: Sequence[Candidate], mode: str) -> tuple[list[Candidate], Candidate | None]:
    """Return candidates in the order of their costs, after the one to run first; see above.

    With them comes what would run first if it did not take so long to compile.
    """
    found = sorted(given, key=lambda each: each.cost(mode))
    if not found:
        return [], None
    first, left_out = _pick(given, mode), None
    sooner = [each for each in given if each.compile_times <= MOST_TIMES]
    if first not in sooner and sooner:
        other = _pick(sooner, mode)
        if first.cost(mode) > WORTH_COMPILING * other.cost(mode):
            first, left_out = other, first
    found.remove(first)
    return [first, *found], left_out


def _pick(given: Sequence[Candidate], mode: str) -> Candidate:
    """Return what rules 1 and 2 take."""
    best = min(each.cost(mode) for each in given)
    plain = next((each for each in given if each.strategy.at_once), None)
    if plain is not None and plain.cost(mode) <= LEVEL * best:
        return plain
    level = (each for each in given if each.cost(mode) <= LEVEL * best)
    return min(level, key=lambda each: (each.effort, each.cost(mode)))
