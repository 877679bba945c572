"""Which strategy would be fastest, by prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tdjax.costs.machine import Machine
from tdjax.costs.predict import forward_s, gradient_s, most_bytes
from tdjax.costs.work import Work
from tdjax.strategies.base import Strategy

# Blocks are chosen over the whole where they promise more than a prediction may be wrong by.
WORTH = 1.1
# What is predicted to be as near as this to the best cannot be told from it. Then a form is taken
# that computes nothing anew; of those the one that is written out least, which compiles fastest;
# and of those the one with fewest blocks.
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
        """Return what it is ranked by: "forward" alone, or forward and gradient together."""
        return self.forward_s if mode == "forward" else self.forward_s + self.gradient_s


def ranked(
    among: Iterable[Strategy], work: Work, batch: int, time: int, machine: Machine, mode: str
) -> list[Candidate]:
    """Return strategies with their predicted costs, the one to run first.

    The first of those that are given is the plain choice: it stays first unless another promises
    to be 10% faster.

    Args:
        among: the strategies.
        work: what a row costs.
        batch: rows of a step.
        time: steps.
        machine: where it runs.
        mode: "forward", or "both" for forward and gradient.
    """
    given, effort = [], {}
    for strategy in among:
        blocks = strategy.blocks(batch, time)
        assert blocks is not None
        written = 1 if blocks.looped else blocks.count
        effort[strategy] = blocks.remat, written, blocks.count
        costs = forward_s(blocks, work, machine), gradient_s(blocks, work, machine)
        given.append(Candidate(strategy, *costs, most_bytes(blocks, work, mode != "forward")))
    found = sorted(given, key=lambda each: each.cost(mode))
    best, first = found[0].cost(mode), given[0]
    if first.cost(mode) > WORTH * best:
        level = (each for each in found if each.cost(mode) <= LEVEL * best)
        first = min(level, key=lambda each: effort[each.strategy])
    found.remove(first)
    return [first, *found]
