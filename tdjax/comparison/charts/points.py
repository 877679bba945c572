"""A chart of points with labels: what is in it, apart from how it is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tdjax.comparison import numbers
from tdjax.comparison.charts.axis import Axis
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry

LEAD, PLAIN, CUT, BOUND = "lead", "plain", "cut", "bound"
_SHOWN = 2


@dataclass(frozen=True)
class Point:
    """One program.

    Attributes:
        x, y: where it is.
        label: the strategies that gave this program.
        said: both values in words.
        kind: "lead", "plain", "cut" (not run to the end) or "bound" (not measured).
        leads: whether it is a winner, or one of those that tie.
        x_low, x_high: the interval of x, where there is one.
    """

    x: float
    y: float
    label: str
    said: str
    kind: str
    leads: bool
    x_low: float | None = None
    x_high: float | None = None


@dataclass(frozen=True)
class Line:
    """A line through places.

    Attributes:
        places: its corners, as x and y.
        kind: "front" (a Pareto front) or "roof" (what a device reaches at best).
        text: what is written above its last stretch.
    """

    places: tuple[tuple[float, float], ...]
    kind: str
    text: str = ""


@dataclass(frozen=True)
class Chart:
    """Points, lines, and what must be said of them.

    Attributes:
        title: what it shows.
        x, y: the axes.
        points: one a program.
        lines: behind the points.
        caption: what a reader must know, in sentences.
    """

    title: str
    x: Axis
    y: Axis
    points: tuple[Point, ...]
    lines: tuple[Line, ...]
    caption: str


def programs(entries: Sequence[Entry]) -> list[tuple[Entry, str]]:
    """Return the entries that have a program of their own, each with the names that share it.

    Controls are left out: they are a program that is there already.
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
    """Return a sentence on what has no point, empty where everything has one."""
    names = list(names)
    return f" Without a point: {numbers.join(names)}." if names else ""
