"""What a chart of labeled points holds, apart from how it is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tdjax.comparison import numbers
from tdjax.comparison.charts.axis import Axis
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.answers import Answer
from tdjax.comparison.verdicts.entry import Entry, Group, grouped
from tdjax.comparison.verdicts.records import Record

PointKind = Literal["lead", "plain", "cut", "bound"]
_SHOWN = 2


@dataclass(frozen=True)
class Point:
    """One program.

    Attributes:
        x, y: where it is.
        label: the strategies that compiled to this program.
        said: both values in words.
        kind: "lead", "plain", "cut" (not run to the end) or "bound" (not measured).
        leads: whether it is one of the fastest.
        x_low, x_high: the interval of x, where there is one.
    """

    x: float
    y: float
    label: str
    said: str
    kind: PointKind
    leads: bool
    x_low: float | None = None
    x_high: float | None = None


@dataclass(frozen=True)
class Polyline:
    """Straight lines from corner to corner.

    Attributes:
        corners: each one's x and y.
        kind: "front" (a Pareto front) or "roof" (what a device reaches at best).
        text: what is written above the last of its lines.
    """

    corners: tuple[tuple[float, float], ...]
    kind: Literal["front", "roof"]
    text: str = ""


@dataclass(frozen=True)
class Chart:
    """Points, lines, and what must be said of them.

    Attributes:
        title: what it shows.
        x, y: the axes.
        points: one for each program.
        lines: behind the points.
        caption: what a reader must know, in sentences.
    """

    title: str
    x: Axis
    y: Axis
    points: tuple[Point, ...]
    lines: tuple[Polyline, ...]
    caption: str


def judged_groups(comparison: Record) -> Iterator[tuple[Group, list[Entry], Answer]]:
    """Yield each group with its entries, their times as they are shown, and what they say."""
    groups = grouped(comparison.entries)
    for answer in comparison.answers:
        entries = groups[answer.group]
        base = next((e for e in entries if e.strategy == comparison.reference), None)
        yield answer.group, [_as_if_in_every_round(entry, base) for entry in entries], answer


def _as_if_in_every_round(entry: Entry, base: Entry | None) -> Entry:
    """Return an entry whose time is that of the reference over its speed, which is paired by round.

    One that left early may have been measured while the machine was slower than later: its median
    would contradict its speed.
    """
    known = base is not None and base.median_s and entry.measured and entry.median_s
    if base is None or not known or not entry.ratio or not entry.median_s:
        return entry
    scale = (base.median_s or 0.0) / entry.ratio / entry.median_s
    names = ("median_s", "median_low_s", "median_high_s")
    times = {name: value and value * scale for name in names for value in [getattr(entry, name)]}
    return replace(entry, **times)


def kind_of(entry: Entry, leads: bool) -> PointKind:
    """Return the kind of a point that was measured, or whose figures a compiler gave."""
    return "cut" if entry.status != "ok" else "lead" if leads else "plain"


def programs(entries: Sequence[Entry]) -> list[tuple[Entry, str]]:
    """Return one entry for each distinct program, with the names of the strategies that share it.

    Controls are left out: they measure a program that has its entry already.
    """
    found = []
    for entry in entries:
        if entry.control or entry.same_as is not None:
            continue
        same = [entry, *(e for e in entries if e.same_as == entry.strategy and not e.control)]
        names = [naming.short(e.strategy) for e in same]
        more = len(names) - _SHOWN
        label = " = ".join([*names[:_SHOWN], *([f"{more} more"] if more > 0 else [])])
        found.append((entry, label))
    return found


def left_out(names: Iterable[str]) -> str:
    """Return a sentence that names what has no point; empty where everything has one."""
    names = list(names)
    return f" Without a point: {numbers.join(names)}." if names else ""
