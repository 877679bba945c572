"""Who is clearly faster, who is level, and who cannot be told apart from the leader yet.

A comparison of two is *closed* when its interval is clear of level by over 3%, or lies within 3% of
it. Between the two, more rounds decide, not chance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import quantiles
from typing import NamedTuple

from tdjax.comparison.verdicts.intervals import SAME, Interval, paired_ratio, paired_times

MARGIN = 1.03
MIN_ROUNDS = 5
CLEAR_WITH_FEW_ROUNDS = 1.5
# A set whose members may be further apart than this is no answer, however clear the rest is.
WIDEST = 1.2
# Half an interval of a median, of normal values: 1.96 standard errors of sqrt(pi / 2) / sqrt(n)
# standard deviations, which are 1 / 1.349 of the distance of the quartiles.
_OF_QUARTILES = 1.96 * math.sqrt(math.pi / 2) / 1.349


class Speed(NamedTuple):
    """How many times as fast one is as another, and over how many rounds.

    Attributes:
        ratio: the median of the rounds' ratios, with its interval.
        rounds: how many there were.
        spread: the part of the interval that lasts: half its width, as a logarithm, by the
            quartiles, which one disturbed round does not move. None: the width as it is.
    """

    ratio: Interval
    rounds: int
    spread: float | None = None

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
        return 0.0 if self.closed else self._rounds_until(math.log(MARGIN))

    @property
    def rounds_to_separate(self) -> float:
        """How many more rounds would show which is faster, by however little, about."""
        low, high = self.ratio.low, self.ratio.high
        apart = low is not None and high is not None and (low > 1 or high < 1)
        return 0.0 if apart else self._rounds_until(0.0)

    def _rounds_until(self, end: float) -> float:
        """Return how many more rounds until the interval leaves out this logarithm, about."""
        value, low, high = self.ratio
        if low is None or high is None:
            return float(MIN_ROUNDS)
        half = math.log(high / low) / 2 if self.spread is None else self.spread
        to_go = abs(abs(math.log(value)) - end)
        needed = half**2 / (to_go**2 + half**2 / 4) - 1 if half else 0.0
        return max(1.0, self.rounds * needed)

    @property
    def _margin(self) -> float:
        return MARGIN if self.rounds >= MIN_ROUNDS else CLEAR_WITH_FEW_ROUNDS


def speed(samples: Sequence[float], against: Sequence[float]) -> Speed:
    """Return how many times as fast the first is; sample i of both was taken in round i."""
    ratios = [math.log(a / b) for a, b in zip(against, samples, strict=False)]
    spread = None
    if len(ratios) >= MIN_ROUNDS:
        low, _, high = quantiles(ratios, n=4, method="inclusive")
        spread = _OF_QUARTILES * (high - low) / math.sqrt(len(ratios))
    return Speed(paired_ratio(against, samples), len(ratios), spread)


class Front(NamedTuple):
    """The leader and those that are not clearly behind it.

    Attributes:
        members: their names, the fastest first. Who is behind the leader, but not clear of another
            member, is one too where that makes the set an answer.
        next: the fastest of the others; None where there is none.
        apart: how far apart two members can be at most, as a ratio of at least 1.
        closed: whether the set is an answer: every member is level with the leader, or all of them
            are clear of the rest and close to each other.
        rounds_to_close: how many more rounds would make it one, about.
        in_doubt: those of whom more rounds could tell whether they are members.
    """

    members: tuple[str, ...]
    next: str | None
    apart: float
    closed: bool
    rounds_to_close: float
    in_doubt: tuple[str, ...]


def front(samples: Mapping[str, Sequence[float]]) -> Front:
    """Return who is fastest among programs of which there are samples, by name."""
    times = paired_times(samples)
    names = sorted(times, key=lambda name: times[name])
    pairs = {(a, b): speed(samples[a], samples[b]) for a, b in itertools.permutations(names, 2)}

    def with_rivals(members: list[str], margin: float) -> list[str]:
        """Return these, and those that not every one of them is faster than by a margin."""
        return [
            name
            for name in names
            if name in members
            or any((pairs[member, name].ratio.low or 0.0) <= margin for member in members)
        ]

    def apart(members: list[str]) -> float:
        return max((pairs[two].apart for two in itertools.combinations(members, 2)), default=1.0)

    leader = names[0]
    members = [name for name in names if name == leader or not pairs[name, leader].behind]
    level = all(pairs[name, leader].level for name in members[1:])
    separate = members
    for _ in names:
        separate = with_rivals(separate, 1.0)
    closed = level or (len(separate) < len(names) and apart(separate) <= WIDEST)
    if closed and not level:
        members = separate
    rest = [name for name in names if name not in members]
    to_level = max((pairs[name, leader].rounds_to_close for name in members[1:]), default=1.0)
    to_separate = (
        max(pairs[a, b].rounds_to_separate for a in members for b in rest) if rest else math.inf
    )
    return Front(
        tuple(members),
        next(iter(rest), None),
        apart(members),
        closed,
        0.0 if closed else max(1.0, min(to_level, to_separate)),
        tuple(with_rivals(members, MARGIN)),
    )
