"""Which strategy would be fastest, by prediction.

The choice is not simply the smallest predicted time, because predictions err. Let c be the
predicted time of a strategy, b the smallest of them all, and p that of the plain choice, the first
of those that are given: a whole fold.

1. If p <= 1.1 b, the plain choice stays: the gain is no more than a prediction may be wrong by.
2. Otherwise all with c <= 1.05 b count as level: which of them is fastest is not known. Among them
   the one with the least effort is taken: first what recomputes nothing in the backward pass, then
   what is written out least (a loop is written once, unrolled blocks one by one), which compiles
   fastest, then what has the fewest blocks.

For example, in ms: fold 10, Fold(64) 8.0, Fold(64, unroll) 7.9, Fold(32) 8.2. Here b = 7.9, and
p = 10 is above 1.1 b = 8.69, so that the plain choice goes. The others are all level, below 1.05 b
= 8.3. None recomputes, the two loops are written once, and of these Fold(64) has fewer blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tdjax.costs.machine import Machine
from tdjax.costs.predict import forward_s, gradient_s, most_bytes, seconds_in
from tdjax.costs.work import Work
from tdjax.strategies.base import KINDS, Strategy

# How many times faster than the plain choice another must be predicted to be.
WORTH = 1.1
# Predicted times within this factor of the best cannot be told from it.
LEVEL = 1.05


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A strategy with its predicted cost.

    Attributes:
        strategy: the strategy.
        forward_s: seconds of the forward pass.
        gradient_s: seconds of the forward pass and the gradient of everything.
        most_bytes: temporary memory that it takes at most, with the gradient if that counts.
    """

    strategy: Strategy
    forward_s: float
    gradient_s: float
    most_bytes: float

    def cost(self, mode: str) -> float:
        """Return what it is ranked by: the time of a mode, or the sum of both."""
        return seconds_in(mode, self.forward_s, self.gradient_s)


def candidates(
    batch: int, time: int, remat: bool = False, operations: int = 1, convolves: bool = False
) -> list[Strategy]:
    """Return the strategies to choose among: what each kind offers and can be predicted, each once.

    Plain programs come first, then single blocks, then several; of each, folds come first.

    Args:
        batch: rows of a step.
        time: steps.
        remat: also the looped forms that recompute their blocks in the backward pass.
        operations: how many a block has; more than 500 of them are not written out.
        convolves: also the whole as a single block, whose convolutions are tdjax's own.
    """
    found = {}
    for kind in KINDS.values():
        for strategy in kind.candidates(batch, time, remat, operations, convolves):
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
    given, effort = [], {}
    for strategy in among:
        blocks = strategy.blocks(batch, time)
        assert blocks is not None
        effort[strategy] = blocks.remat, times_written(strategy, batch, time), blocks.count
        costs = forward_s(blocks, work, machine), gradient_s(blocks, work, machine)
        given.append(Candidate(strategy, *costs, most_bytes(blocks, work, mode != "forward")))
    found = sorted(given, key=lambda each: each.cost(mode))
    best, first = found[0].cost(mode), given[0]
    if first.cost(mode) > WORTH * best:
        level = (each for each in found if each.cost(mode) <= LEVEL * best)
        first = min(level, key=lambda each: effort[each.strategy])
    found.remove(first)
    return [first, *found]
