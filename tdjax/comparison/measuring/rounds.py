"""Rounds of samples: every candidate once a round, in a new random order each time.

The number of rounds is not fixed: they go on while a question is open (is this one faster than that
one, who are the fastest) and there is time. Who is clearly behind the leader, and not asked about
any more, is measured no further; once it is clear who are the fastest, only those are that an open
question is about.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import jax

from tdjax.comparison.measuring.candidate import MeasuredCandidate
from tdjax.comparison.measuring.rotation import Rotation
from tdjax.comparison.verdicts.standing import MIN_ROUNDS, front, speed

TURN_SECONDS = 0.005
MOST_CALLS = 1000
# A sample is the shortest of so many turns, if they take no longer than this together.
MOST_TURNS = 3
SAMPLE_SECONDS = 0.08
LONG_CALL_SECONDS = 0.1
CLEARING_SECONDS = 0.02
FEWEST_ROUNDS = 7
MOST_ROUNDS = 501
# A candidate leaves by a wider margin than the answer needs: the answer then still holds with a
# new leader, or with one more sample of this one.
OUT_RATIO = 1.15
OUT_RATIO_EARLY = 1.6
OUT_RATIO_LATE = 1.06
EARLY_LOOKS = (3, 5)
LATE = 20
# Rounds go on for so much more of the budget where that is likely to close what is open.
_LONGER = 0.5
LOOK_EVERY = 3
CALM_CHECKS = 2
VISITS = 2

Tell = Callable[[str, float], None]
"""Called with what is being done, and how much of it is done (0 to 1)."""

Pair = tuple[MeasuredCandidate, MeasuredCandidate]
_FASTEST = None
"""The question who is fastest, beside those that are about a pair."""


@dataclass(frozen=True)
class Effort:
    """How much time a group may take.

    Attributes:
        rounds: how many rounds; None: until all questions are closed, at least 7 and no longer than
            `budget_s`. There are `fewest` where those take more than twice the budget, and as few
            as 3 for candidates that are far behind.
        budget_s: seconds for the rounds of one group.
        fewest: how many rounds there are, however long they take; fewer than 5 where more follow
            later, when the machine may be in another state.
        timeout_s: the longest that one call may take.
    """

    rounds: int | None = None
    budget_s: float = 10.0
    fewest: int = MIN_ROUNDS
    timeout_s: float = 60.0


class Rounds:
    """The rounds of a group's candidates, which can be continued later.

    Sample i of every candidate is taken in round i, so that ratios can be paired.

    Args:
        candidates: whom to measure; their samples are appended to.
        effort: how many rounds, or for how long.
        seed: what the orders are drawn from.
        asked: pairs of them of which it is asked which is faster, wherever they stand.
    """

    def __init__(
        self,
        candidates: Sequence[MeasuredCandidate],
        effort: Effort,
        seed: str,
        asked: Sequence[Pair] = (),
    ) -> None:
        self._candidates = candidates
        self._effort = effort
        self._order = random.Random(seed)
        self._race = _Race(candidates, asked)
        self._taken = 0
        self._visits = 0

    @property
    def undecided(self) -> bool:
        """Whether another visit could tell more: an answer should be reached twice."""
        if self._effort.rounds is not None or self._race.over or self._taken >= MOST_ROUNDS:
            return False
        return self._visits < VISITS or not self._race.decided

    @property
    def visits(self) -> int:
        """How often rounds were begun."""
        return self._visits

    @property
    def round_s(self) -> float:
        """The seconds that a round takes, about."""
        return sum(_sample_s(candidate) for candidate in self._race.running)

    @property
    def open_s(self) -> float:
        """The seconds in which more rounds would close what is open, about; 0 where nothing is."""
        return self.round_s * self._race.rounds_to_close

    def begin(self, inputs: Rotation, tell: Tell) -> None:
        """Warm up, then take rounds until all questions are closed or the budget is used up."""
        for candidate in self._candidates:
            _warm_up(candidate, inputs)
        _choose_turns(self._candidates)
        if self._effort.rounds is None:
            self._visit(self._unclear, inputs, self._effort.budget_s, tell)
            return
        for index in range(self._effort.rounds):
            tell(f"round {index + 1}", index / self._effort.rounds)
            self._take(self._candidates, inputs)

    def go_on(self, inputs: Rotation, budget_s: float, tell: Tell) -> None:
        """Take more rounds, until they are closed again or the budget is used up."""
        self._race.look_anew()
        for candidate in self._race.running:
            _sample(candidate, inputs)
        self._visit(lambda spent: spent <= 1 and not self._clear, inputs, budget_s, tell)

    def _visit(
        self, wanted: Callable[[float], bool], inputs: Rotation, budget_s: float, tell: Tell
    ) -> None:
        self._visits += 1
        start = time.perf_counter()
        while wanted(spent := (time.perf_counter() - start) / budget_s):
            tell(f"round {self._taken + 1}", min(spent, 1.0))
            self._take(self._race.running, inputs)
            self._race.look(self._taken)

    def _take(self, due: Sequence[MeasuredCandidate], inputs: Rotation) -> None:
        for candidate in self._order.sample(due, len(due)):
            candidate.samples.append(_sample(candidate, inputs))
        self._taken += 1

    @property
    def _clear(self) -> bool:
        return self._race.over or self._race.decided or self._taken >= MOST_ROUNDS

    def _unclear(self, spent: float) -> bool:
        """Whether to go on: the fewest rounds are enough where they take twice the budget."""
        if self._taken < FEWEST_ROUNDS:
            return self._taken < self._effort.fewest or spent <= 2
        if self._clear:
            return False
        left_s = (1 + _LONGER - spent) * self._effort.budget_s
        return spent <= 1 or self.open_s <= left_s


class _Race:
    """Who still takes part, and whether more rounds could tell anything.

    A question is settled when two looks in a row found it closed. Who has left does not come back:
    its samples would no longer be of the same rounds.

    Attributes:
        running: candidates that take part in an open question, or are not clearly behind.
    """

    def __init__(self, candidates: Sequence[MeasuredCandidate], asked: Sequence[Pair]) -> None:
        self._all = {candidate.name: candidate for candidate in candidates}
        self._calm: dict[Pair | None, int] = dict.fromkeys([*asked, _FASTEST], 0)
        self.running = list(candidates)

    @property
    def over(self) -> bool:
        """Whether every rival has left, far behind."""
        return len(self.running) < 2

    @property
    def decided(self) -> bool:
        """Whether the last looks found all questions closed."""
        return not self._unsettled()

    @property
    def rounds_to_close(self) -> float:
        """How many rounds would close all questions, about; 0 where they are."""
        standing = self._standing()
        return max((standing[each].rounds_to_close for each in self._open(standing)), default=0.0)

    def look_anew(self) -> None:
        """Begin another visit: to what is open or, where nothing is, to all questions once more."""
        standing = self._standing()
        self._calm |= dict.fromkeys(self._open(standing) or self._calm, 0)
        self._dismiss(standing)

    def look(self, rounds: int) -> None:
        """Compare the candidates after some rounds; those that no question needs leave."""
        settled = rounds >= FEWEST_ROUNDS and (rounds - FEWEST_ROUNDS) % LOOK_EVERY == 0
        if not (settled or rounds in EARLY_LOOKS) or not self.running:
            return
        standing = self._standing()
        if settled:
            open_ = self._open(standing)
            self._calm = {q: 0 if q in open_ else calm + 1 for q, calm in self._calm.items()}
            self._dismiss(standing)
        first = [self._all[name] for name in standing[_FASTEST].members]
        needed = [candidate for pair in self._open(standing) for candidate in pair or ()]
        margin = OUT_RATIO if rounds >= MIN_ROUNDS else OUT_RATIO_EARLY
        margin = OUT_RATIO_LATE if rounds >= LATE else margin
        for rival in [c for c in self.running if c not in needed and c not in first]:
            # Whichever of the first leads later: who has left cannot be compared with it anew.
            ahead = (speed(other.samples, rival.samples).ratio.low or 0.0 for other in first)
            if min(ahead) > margin:
                self.running.remove(rival)

    def _standing(self) -> dict[Pair | None, Any]:
        """Return the speeds of the pairs that are asked for, and who is in front."""
        found = front({name: candidate.samples for name, candidate in self._all.items()})
        standing: dict[Pair | None, Any] = {_FASTEST: found}
        for pair in self._calm:
            if pair is not None:
                standing[pair] = speed(*(candidate.samples for candidate in pair))
        return standing

    def _open(self, standing: Mapping[Pair | None, Any]) -> list[Pair | None]:
        """Return the questions that more rounds of those that still run could close."""
        names = {question: [c.name for c in question or ()] for question in self._calm}
        names[_FASTEST] = standing[_FASTEST].members
        running = {candidate.name for candidate in self.running}
        return [q for q in self._calm if not standing[q].closed and running.issuperset(names[q])]

    def _unsettled(self) -> list[Pair | None]:
        return [question for question, calm in self._calm.items() if calm < CALM_CHECKS]

    def _dismiss(self, standing: Mapping[Pair | None, Any]) -> None:
        """Measure only those that an open question is about; all, to confirm who is fastest."""
        unsettled = self._unsettled()
        if not unsettled or (_FASTEST in unsettled and standing[_FASTEST].closed):
            return
        needed = {candidate.name for pair in unsettled for candidate in pair or ()}
        if _FASTEST in unsettled:
            needed |= {*standing[_FASTEST].in_doubt}
        self.running = [candidate for candidate in self.running if candidate.name in needed]


def _warm_up(candidate: MeasuredCandidate, inputs: Rotation) -> None:
    """Call until the time is known, and choose how many calls make a sample."""
    first_s = candidate.first_run_s or 0.0
    if first_s > LONG_CALL_SECONDS:
        candidate.call_s, candidate.calls_per_sample = first_s, 1
        return
    calls = 1
    while True:
        candidate.calls_per_sample = calls
        candidate.call_s = max(_sample(candidate, inputs), 1e-9)
        needed = min(math.ceil(TURN_SECONDS / candidate.call_s), MOST_CALLS)
        if calls >= needed:
            return
        calls = max(needed, 2 * calls)


def _choose_turns(candidates: Sequence[MeasuredCandidate]) -> None:
    """Choose of how many turns a sample is the shortest: as many for one as for another."""
    lengths = [(c.call_s or 0.0) * (c.calls_per_sample or 1) for c in candidates]
    turns = int(SAMPLE_SECONDS / max(median(lengths or [0.0]), 1e-9))
    for candidate in candidates:
        candidate.turns = max(1, min(turns, MOST_TURNS))


def _sample_s(candidate: MeasuredCandidate) -> float:
    call_s = candidate.call_s or 0.0
    calls = (candidate.calls_per_sample or 1) * candidate.turns
    return call_s * (calls + (call_s <= CLEARING_SECONDS))


def _sample(candidate: MeasuredCandidate, inputs: Rotation) -> float:
    """Return the seconds of a call, the shortest of some turns.

    What disturbs a call only makes it longer: another process, or a thread that starts late.
    """
    assert candidate.program is not None
    executable, calls = candidate.program.executable, candidate.calls_per_sample or 1
    if (candidate.call_s or 0.0) <= CLEARING_SECONDS:
        # A call that is not timed clears away what the candidate before left in caches and memory.
        jax.block_until_ready(executable(*inputs.turn()))
    shortest = math.inf
    for _ in range(candidate.turns):
        turn = [inputs.turn() for _ in range(calls)]
        with _no_collection():
            start = time.perf_counter()
            for arguments in turn:
                jax.block_until_ready(executable(*arguments))
            shortest = min(shortest, time.perf_counter() - start)
    return shortest / calls


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


def check_effort(rounds: int | None, timeout: float) -> None:
    """Raise ValueError unless rounds and timeout are positive."""
    if rounds is not None and (not isinstance(rounds, int) or rounds < 1):
        raise ValueError(f"rounds: got {rounds!r}, needed an int of at least 1, or None.")
    if not timeout > 0:
        raise ValueError(f"timeout: got {timeout!r}, needed seconds above 0.")
