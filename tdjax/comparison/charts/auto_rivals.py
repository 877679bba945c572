"""How `auto` does against other libraries, and against the best strategy it could choose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from tdjax.comparison.peers import PEERS
from tdjax.comparison.verdicts.entry import Entry, Group, grouped
from tdjax.comparison.verdicts.intervals import Interval, paired_ratio

_AUTO = "auto"
_NAMES = frozenset(str(peer) for peer in PEERS)
# With fewer of tdjax's own strategies than this, they are a user's selection.
_MANY = 10


@dataclass(frozen=True)
class Against:
    """`auto` beside its rivals on one workload in one mode.

    Attributes:
        group: the workload, target and mode.
        best: the fastest rival.
        speed: the best rival's time over that of `auto`, with its interval; above 1, `auto` is
            faster.
        same: whether both are the same program, which makes the speed 1.
        each: every rival's time over that of `auto`.
    """

    group: Group
    best: str
    speed: Interval
    same: bool
    each: dict[str, float]


def against_peers(entries: Sequence[Entry]) -> list[Against]:
    """Compare `auto` with other libraries' ways in each measured group that has both.

    A rival that was cut after one call counts with that call.
    """
    return _against(entries, lambda row: row.strategy in _NAMES, fewest=1)


def against_oracle(entries: Sequence[Entry]) -> list[Against]:
    """Compare `auto` with the strategies it chooses from in each measured group that has them all.

    The fastest of them is the best choice that `auto` could have made.
    """
    others = _NAMES | {_AUTO}
    return _against(entries, lambda row: row.strategy not in others, fewest=_MANY)


def _against(
    entries: Sequence[Entry], rival: Callable[[Entry], bool], fewest: int
) -> list[Against]:
    found = []
    for group, rows in grouped(entries).items():
        auto = next((row for row in rows if row.strategy == _AUTO and row.measured), None)
        rivals = [row for row in rows if rival(row) and row.samples_s and not row.control]
        if group.evidence == "measured" and auto is not None and len(rivals) >= fewest:
            speeds = {rival.strategy: _speed(rival, auto) for rival in rivals}
            best = min(rivals, key=lambda rival: (speeds[rival.strategy].value, rival.strategy))
            each = {name: speed.value for name, speed in speeds.items()}
            same = _same(best, auto)
            found.append(Against(group, best.strategy, speeds[best.strategy], same, each))
    return found


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of ratios."""
    return math.exp(fmean(map(math.log, values)))


def _same(rival: Entry, auto: Entry) -> bool:
    return rival.program is not None and rival.program == auto.program


def _speed(rival: Entry, auto: Entry) -> Interval:
    if _same(rival, auto):
        return Interval(1.0, 1.0, 1.0)
    return paired_ratio(rival.samples_s, auto.samples_s)
