"""Who is clearly faster, who is level, and who cannot be told apart from the leader yet.

A comparison of two is *closed* when its interval is clear of level by over 3%, or lies within 3% of
it. Between the two, more rounds decide, not chance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tdjax.comparison.verdicts.intervals import SAME, Interval, paired_ratio, paired_times

MARGIN = 1.03
MIN_ROUNDS = 5
CLEAR_WITH_FEW_ROUNDS = 1.5
# A set whose members may be further apart than this is no answer, however clear the rest is.
WIDEST = 1.2


class Speed(NamedTuple):
    """How many times as fast one is as another, and over how many rounds."""

    ratio: Interval
    rounds: int

    @property
    def ahead(self) -> bool:
        """Whether it is clearly faster."""
        return self.ratio.low is not None and self.ratio.low > self._margin

    @property
    def behind(self) -> bool:
        """Whether it is clearly slower."""
        return self.ratio.high is not None and self.ratio.high < 1 / self._margin

    @property
    def level(self) -> bool:
        """Whether the two are as fast as each other."""
        low, high = self.ratio.low, self.ratio.high
        if low is None or high is None or (self.rounds < MIN_ROUNDS and self.ratio != SAME):
            return False
        return low >= 1 / MARGIN and high <= MARGIN

    @property
    def closed(self) -> bool:
        """Whether more rounds would not change what is said."""
        return self.ahead or self.behind or self.level

    @property
    def apart(self) -> float:
        """How far apart the two can be at most, as a ratio of at least 1."""
        low, high = self.ratio.low, self.ratio.high
        return float("inf") if low is None or high is None else max(high, 1 / low)

    @property
    def rounds_to_close(self) -> float:
        """How many more rounds would close it, about: an interval narrows with their root.

        The estimate may be off by half its interval itself, so that this is 4 times those that
        were taken at most.
        """
        value, low, high = self.ratio
        if self.closed:
            return 0.0
        if low is None or high is None:
            return float(MIN_ROUNDS)
        half = math.log(high / low) / 2
        to_go = abs(abs(math.log(value)) - math.log(MARGIN))
        needed = half**2 / (to_go**2 + half**2 / 4) - 1
        return max(1.0, self.rounds * needed)

    @property
    def _margin(self) -> float:
        return MARGIN if self.rounds >= MIN_ROUNDS else CLEAR_WITH_FEW_ROUNDS


def speed(samples: Sequence[float], against: Sequence[float]) -> Speed:
    """Return how many times as fast the first is; sample i of both was taken in round i."""
    return Speed(paired_ratio(against, samples), min(len(samples), len(against)))


class Front(NamedTuple):
    """The leader and those that are not clearly behind it.

    Attributes:
        members: their names, the fastest first.
        next: the fastest of those that are clearly behind; None where there is none.
        apart: how far apart two members can be at most, as a ratio of at least 1.
        closed: whether the set is an answer: every member is level with the leader, or all of them
            are clear of the rest and close to each other.
        rounds_to_close: how many more rounds would make it one, about.
    """

    members: tuple[str, ...]
    next: str | None
    apart: float
    closed: bool
    rounds_to_close: float


def front(samples: Mapping[str, Sequence[float]]) -> Front:
    """Return who is fastest among programs of which there are samples, by name."""
    times = paired_times(samples)
    leader, *others = sorted(times, key=lambda name: times[name])
    to_leader = {name: speed(samples[name], samples[leader]) for name in others}
    members = (leader, *(name for name in others if not to_leader[name].behind))
    rest = [name for name in others if name not in members]
    pairs = [speed(samples[a], samples[b]) for a, b in itertools.combinations(members, 2)]
    apart = max((pair.apart for pair in pairs), default=1.0)
    level = all(to_leader[name].level for name in members[1:])
    gap = bool(rest) and all(
        (speed(samples[member], samples[name]).ratio.low or 0.0) > 1
        for member in members
        for name in rest
    )
    closed = level or (gap and apart <= WIDEST)
    more = max((to_leader[name].rounds_to_close for name in members[1:]), default=1.0)
    return Front(members, next(iter(rest), None), apart, closed, 0.0 if closed else more)
