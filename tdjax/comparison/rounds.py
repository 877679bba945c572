"""Rounds of samples: every candidate once a round, in an order drawn anew each time."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import jax

from tdjax.comparison.candidate import Candidate

SAMPLE_SECONDS = 0.005
MOST_CALLS = 1000
LONG_CALL_SECONDS = 0.2
FEWEST_ROUNDS = 5
MOST_ROUNDS = 41
SLOW_RATIO = 2.0
SLOW_ROUNDS = 3


@dataclass(frozen=True)
class Effort:
    """How much time a group may take.

    Attributes:
        rounds: how many rounds; None: as many as fit in `budget_s`, but at least 5 (3 for
            candidates that are twice as slow as the leader: more would tell nothing new).
        budget_s: seconds for the rounds of one group.
        timeout_s: the longest that one call may take.
    """

    rounds: int | None = None
    budget_s: float = 5.0
    timeout_s: float = 60.0


def measure_rounds(
    candidates: Sequence[Candidate],
    arguments: Sequence[Any],
    effort: Effort,
    seed: str,
    tell: Callable[[str, float], None],
) -> None:
    """Warm the candidates up, then append one sample a round to each.

    Sample i of every candidate is taken in round i, so that ratios can be paired.
    """
    for candidate in candidates:
        _warm_up(candidate, arguments)
    rounds = effort.rounds or _affordable(candidates, effort.budget_s)
    order = random.Random(seed)
    start = time.perf_counter()
    for index in range(rounds):
        late = time.perf_counter() - start > 1.2 * effort.budget_s
        if effort.rounds is None and late and index >= FEWEST_ROUNDS:
            break
        tell(f"round {index + 1} of {rounds}", index / rounds)
        due = candidates if effort.rounds else _due(candidates, index)
        for candidate in order.sample(due, len(due)):
            candidate.samples.append(_sample(candidate, arguments))


def _warm_up(candidate: Candidate, arguments: Sequence[Any]) -> None:
    """Call until the time is known, and choose how many calls make a sample."""
    first_s = candidate.first_run_s or 0.0
    if first_s > LONG_CALL_SECONDS:
        candidate.call_s, candidate.calls_per_sample = first_s, 1
        return
    calls = 1
    while True:
        candidate.calls_per_sample = calls
        candidate.call_s = max(_sample(candidate, arguments), 1e-9)
        needed = min(math.ceil(SAMPLE_SECONDS / candidate.call_s), MOST_CALLS)
        if calls >= needed:
            return
        calls = max(needed, 2 * calls)


def _affordable(candidates: Sequence[Candidate], budget_s: float) -> int:
    leader_s = min((c.call_s or 0.0 for c in candidates), default=0.0)
    due = [c for c in candidates if (c.call_s or 0.0) <= SLOW_RATIO * leader_s]
    round_s = sum((c.call_s or 0.0) * (c.calls_per_sample or 1) for c in due)
    return max(FEWEST_ROUNDS, min(MOST_ROUNDS, int(budget_s / max(round_s, 1e-9))))


def _due(candidates: Sequence[Candidate], index: int) -> list[Candidate]:
    """Return who takes part in a round: after a few rounds, no one who is clearly behind."""
    if index < SLOW_ROUNDS or not candidates:
        return list(candidates)
    leader_s = min(median(candidate.samples) for candidate in candidates)
    return [c for c in candidates if min(c.samples) <= SLOW_RATIO * leader_s]


def _sample(candidate: Candidate, arguments: Sequence[Any]) -> float:
    assert candidate.program is not None
    run, calls = candidate.program.run, candidate.calls_per_sample or 1
    with _no_collection():
        start = time.perf_counter()
        for _ in range(calls):
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
