"""Rounds of samples: every candidate once a round, in an order drawn anew each time.

How many rounds there are is not fixed: they go on until every rival is known to be behind the
leader or level with it, or the time is used up.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import jax

from tdjax.comparison.candidate import Candidate
from tdjax.comparison.intervals import paired_ratio
from tdjax.comparison.rotation import Rotation
from tdjax.comparison.standing import LEVEL, MIN_ROUNDS, UNCLEAR, standing

SAMPLE_SECONDS = 0.01
MOST_CALLS = 1000
LONG_CALL_SECONDS = 0.2
CLEARING_SECONDS = 0.05
FEWEST_ROUNDS = 7
MOST_ROUNDS = 101
SLOW_RATIO = 2.0
SLOW_ROUNDS = 3
OUT_RATIO = 1.15
CHECK_EVERY = 3
CALM_CHECKS = 2


@dataclass(frozen=True)
class Effort:
    """How much time a group may take.

    Attributes:
        rounds: how many rounds; None: until the verdict is clear, at least 7 and no longer than
            `budget_s`. There are 5 where those take more than twice the budget, and 3 for
            candidates that are twice as slow as the leader: more would tell nothing new.
        budget_s: seconds for the rounds of one group.
        timeout_s: the longest that one call may take.
    """

    rounds: int | None = None
    budget_s: float = 10.0
    timeout_s: float = 60.0


def measure_rounds(
    candidates: Sequence[Candidate],
    inputs: Rotation,
    effort: Effort,
    seed: str,
    tell: Callable[[str, float], None],
) -> None:
    """Warm the candidates up, then append one sample a round to each.

    Sample i of every candidate is taken in round i, so that ratios can be paired.
    """
    for candidate in candidates:
        _warm_up(candidate, inputs)
    race = _Race(candidates)
    order = random.Random(seed)
    start = time.perf_counter()
    for index in range(effort.rounds or MOST_ROUNDS):
        spent = (time.perf_counter() - start) / effort.budget_s
        if effort.rounds is None and _enough(index, spent, race):
            break
        tell(f"round {index + 1}", index / effort.rounds if effort.rounds else min(spent, 1.0))
        due = candidates if effort.rounds else race.due(index)
        for candidate in order.sample(due, len(due)):
            candidate.samples.append(_sample(candidate, inputs))
        race.look(index + 1)


def _enough(rounds: int, spent: float, race: _Race) -> bool:
    """Whether to stop: all is clear, the time is used up, or twice used up by fewer rounds."""
    if rounds < FEWEST_ROUNDS:
        return rounds >= MIN_ROUNDS and spent > 2
    return spent > 1 or race.decided


class _Race:
    """Who still takes part, and whether more rounds could tell anything."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._running = list(candidates)
        self._calm = 0

    @property
    def decided(self) -> bool:
        """Whether the last looks found every rival behind the leader or level with it."""
        return self._calm >= CALM_CHECKS or len(self._running) < 2

    def due(self, index: int) -> list[Candidate]:
        """Return who takes part in a round: no one who is clearly behind."""
        if index == SLOW_ROUNDS and self._running:
            leader_s = min(median(candidate.samples) for candidate in self._running)
            self._running = [c for c in self._running if min(c.samples) <= SLOW_RATIO * leader_s]
        return list(self._running)

    def look(self, rounds: int) -> None:
        """See after some rounds how the candidates stand."""
        if rounds < FEWEST_ROUNDS or (rounds - FEWEST_ROUNDS) % CHECK_EVERY or not self._running:
            return
        first = self._running[0]
        leader = min(self._running, key=lambda c: paired_ratio(c.samples, first.samples).value)
        stand = {c: standing(c.samples, leader.samples) for c in self._running if c is not leader}
        self._calm = 0 if UNCLEAR in stand.values() else self._calm + 1
        for rival, where in stand.items():
            low = paired_ratio(rival.samples, leader.samples).low
            if where not in (LEVEL, UNCLEAR) and low is not None and low > OUT_RATIO:
                self._running.remove(rival)


def _warm_up(candidate: Candidate, inputs: Rotation) -> None:
    """Call until the time is known, and choose how many calls make a sample."""
    first_s = candidate.first_run_s or 0.0
    if first_s > LONG_CALL_SECONDS:
        candidate.call_s, candidate.calls_per_sample = first_s, 1
        return
    calls = 1
    while True:
        candidate.calls_per_sample = calls
        candidate.call_s = max(_sample(candidate, inputs), 1e-9)
        needed = min(math.ceil(SAMPLE_SECONDS / candidate.call_s), MOST_CALLS)
        if calls >= needed:
            return
        calls = max(needed, 2 * calls)


def _sample(candidate: Candidate, inputs: Rotation) -> float:
    assert candidate.program is not None
    run, calls = candidate.program.run, candidate.calls_per_sample or 1
    if (candidate.call_s or 0.0) <= CLEARING_SECONDS:
        # What the candidate before left in caches and memory is not this one's to clear away.
        jax.block_until_ready(run(*inputs.turn()))
    turns = [inputs.turn() for _ in range(calls)]
    with _no_collection():
        start = time.perf_counter()
        for arguments in turns:
            jax.block_until_ready(run(*arguments))
        return (time.perf_counter() - start) / calls


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector out of a sample."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
