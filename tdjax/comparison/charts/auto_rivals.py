"""How `auto` does against what other libraries offer, and against the best that it could choose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tdjax.comparison.peers import PEERS
from tdjax.comparison.verdicts.entry import Entry, Group, grouped
from tdjax.comparison.verdicts.intervals import Interval, paired_ratio

_AUTO = "auto"
_NAMES = frozenset(str(peer) for peer in PEERS)
# So many strategies of tdjax's own are what `auto` chooses from, and not a selection of somebody's.
_MANY = 10


@dataclass(frozen=True)
class Against:
    """`auto` beside its rivals on one workload in one mode.

    Attributes:
        group: the workload, target and mode.
        best: the fastest rival.
        speed: its time over that of `auto`, with the interval; above 1, `auto` is faster.
        same: whether both are the same program: the speed is 1.
        each: every rival's time over that of `auto`.
    """

    group: Group
    best: str
    speed: Interval
    same: bool
    each: dict[str, float]


def against_peers(entries: Sequence[Entry]) -> list[Against]:
    """Return a comparison for each measured group that has `auto` and a rival; others are left out.

    A rival that was cut after one call counts with that call.
    """
    return _against(entries, lambda row: row.strategy in _NAMES, fewest=1)


def against_oracle(entries: Sequence[Entry]) -> list[Against]:
    """Return a comparison for each measured group that has `auto` and all that it chooses from.

    The best of them is what nothing that chooses among them can surpass.
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
    """Return the mean of ratios."""
    return math.exp(fmean(map(math.log, values)))


def _same(rival: Entry, auto: Entry) -> bool:
    return rival.program is not None and rival.program == auto.program


def _speed(rival: Entry, auto: Entry) -> Interval:
    if _same(rival, auto):
        return Interval(1.0, 1.0, 1.0)
    return paired_ratio(rival.samples_s, auto.samples_s)


def summary(entries: Sequence[Entry]) -> Any:
    """Yield what `rich` shows of it; nothing where no rival was measured."""
    from rich.text import Text

    if oracle := against_oracle(entries):
        yield from _table(oracle, "best of all")
        overall = geometric_mean([each.speed.value for each in oracle])
        yield Text(f"auto is {overall:.2f}x as fast as the best of all (geometric mean)")
    found = against_peers(entries)
    if not found:
        return
    yield from _table(found, "best rival")
    overall = geometric_mean([each.speed.value for each in found])
    singles = {
        name: geometric_mean([each.each[name] for each in found if name in each.each])
        for name in dict.fromkeys(name for each in found for name in each.each)
    }
    text = f"auto is {overall:.2f}x as fast as the best rival of each (geometric mean); "
    text += ", ".join(f"{value:.2f}x as fast as {name}" for name, value in singles.items())
    yield Text(text)


def _table(found: Sequence[Against], best: str) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for heading in ("workload", "mode", best):
        table.add_column(heading, no_wrap=True)
    table.add_column("auto is", justify="right", no_wrap=True)
    table.add_column("95% interval", justify="right", no_wrap=True)
    for each in found:
        low, high = each.speed.low, each.speed.high
        bounds = "same program" if each.same else f"{low:.2f} - {high:.2f}" if low else ""
        speed = f"{each.speed.value:.2f}x"
        table.add_row(each.group.workload, each.group.mode, each.best, speed, bounds)
    yield Text()
    yield table
