"""Memory against time: which strategies are worth having, and which are beaten in both."""

from __future__ import annotations

from collections.abc import Sequence

from tdjax.comparison import numbers
from tdjax.comparison.charts import axis
from tdjax.comparison.charts.points import (
    Chart,
    Point,
    Polyline,
    judged_groups,
    kind_of,
    left_out,
    programs,
)
from tdjax.comparison.verdicts.answers import Answer
from tdjax.comparison.verdicts.entry import Entry, Group
from tdjax.comparison.verdicts.metric import BYTES, CYCLES, TIME, figure, metric_of, shown
from tdjax.comparison.verdicts.records import Record

PEAK, TEMPORARY = "peak_bytes", "temp_bytes"
_MEMORY = {PEAK: "peak memory", TEMPORARY: "temporary memory"}
_X = {
    TIME: ("median time", axis.TIMES),
    CYCLES: ("estimated cycles", axis.COUNTS),
    BYTES: ("bytes accessed", axis.MEMORY),
}


def memory_of(entries: Sequence[Entry]) -> str | None:
    """Return the field that holds a group's memory: the peak if known; None if neither is."""
    for name in (PEAK, TEMPORARY):
        if any(getattr(entry, name) for entry in entries if entry.status == "ok"):
            return name
    return None


def charts(comparison: Record) -> dict[Group, Chart]:
    """Return the chart of each group that has one."""
    return {
        group: found
        for group, entries, answer in judged_groups(comparison)
        if (found := chart(entries, answer))
    }


def chart(entries: Sequence[Entry], answer: Answer) -> Chart | None:
    """Return a group's chart, or None where fewer than two programs can be compared."""
    metric, memory = metric_of(entries), memory_of(entries)
    if memory is None:
        return None
    points, absent = [], []
    for entry, label in programs(entries):
        x, y = figure(entry, metric), getattr(entry, memory)
        if x is None or y is None:
            absent.append(label)
            continue
        leads = answer.leads(entry)
        said = f"{shown(x, metric)}, {numbers.memory(y)}"
        kind, interval = kind_of(entry, leads), (entry.median_low_s, entry.median_high_s)
        points.append(Point(x, y, label, said, kind, leads, *interval))
    if len(points) < 2:
        return None
    front = pareto([(point.x, point.y) for point in points if point.kind != "cut"])
    title, units = _X[metric]
    what = "Time" if metric == TIME else title.capitalize()
    return Chart(
        f"{_MEMORY[memory].capitalize()} against {what.lower()}",
        axis.around([x for p in points for x in (p.x, p.x_low, p.x_high) if x], title, units),
        axis.around([point.y for point in points], _MEMORY[memory], axis.MEMORY),
        tuple(points),
        (Polyline(_stairs(front), "front"),) if len(front) > 1 else (),
        _caption(points, front) + left_out(absent),
    )


def _caption(points: Sequence[Point], front: Sequence[tuple[float, float]]) -> str:
    if len(front) > 1:
        return "Lower left is better. The line is the Pareto front: nothing beats it in both."
    best = [point.label for point in points if (point.x, point.y) in front]
    return f"Lower left is better: {', '.join(best)} is ahead in both." if best else ""


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other point beats in one and equals or beats in the other, by x."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(set(points)):
        if not front or y < front[-1][1]:
            front.append((x, y))
    return front


def _stairs(front: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return the corners of the line around what the front's points beat."""
    corners = list(front[:1])
    for x, y in front[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return tuple(corners)
