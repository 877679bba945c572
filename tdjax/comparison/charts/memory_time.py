"""Memory against time: which strategies are worth having, and which are beaten in both."""

from __future__ import annotations

from collections.abc import Sequence

from tdjax.comparison import numbers
from tdjax.comparison.charts import axis
from tdjax.comparison.charts.points import CUT, LEAD, PLAIN, Chart, Line, Point, left_out, programs
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.metric import BYTES, CYCLES, TIME, figure, metric_of, shown
from tdjax.comparison.verdicts.verdict import Verdict

PEAK, TEMPORARY = "peak_bytes", "temp_bytes"
_MEMORY = {PEAK: "peak memory", TEMPORARY: "temporary memory"}
_X = {
    TIME: ("median time", axis.TIMES),
    CYCLES: ("estimated cycles", axis.COUNTS),
    BYTES: ("bytes accessed", axis.MEMORY),
}


def memory_of(entries: Sequence[Entry]) -> str | None:
    """Return the field of a group's memory: the peak where it is known, None without either."""
    for name in (PEAK, TEMPORARY):
        if any(getattr(entry, name) for entry in entries if entry.status == "ok"):
            return name
    return None


def chart(entries: Sequence[Entry], verdict: Verdict | None) -> Chart | None:
    """Return a group's chart, None where there are not two programs to compare."""
    metric, memory = metric_of(entries), memory_of(entries)
    if memory is None:
        return None
    points, absent = [], []
    for entry, label in programs(entries):
        x, y = figure(entry, metric), getattr(entry, memory)
        if x is None or y is None:
            absent.append(label)
            continue
        leads = verdict is not None and verdict.leads(entry)
        kind = CUT if entry.status != "ok" else LEAD if leads else PLAIN
        said = f"{shown(x, metric)}, {numbers.memory(y)}"
        points.append(
            Point(x, y, label, said, kind, leads, entry.median_low_s, entry.median_high_s)
        )
    if len(points) < 2:
        return None
    front = pareto([(point.x, point.y) for point in points if point.kind != CUT])
    title, units = _X[metric]
    what = "Time" if metric == TIME else title.capitalize()
    return Chart(
        f"{_MEMORY[memory].capitalize()} against {what.lower()}",
        axis.around([point.x for point in points], title, units),
        axis.around([point.y for point in points], _MEMORY[memory], axis.MEMORY),
        tuple(points),
        (Line(_stairs(front), "front"),) if len(front) > 1 else (),
        _caption(points, front) + left_out(absent),
    )


def _caption(points: Sequence[Point], front: Sequence[tuple[float, float]]) -> str:
    if len(front) > 1:
        return "Lower left is better. The line is the Pareto front: nothing beats it in both."
    best = [point.label for point in points if (point.x, point.y) in front]
    return f"Lower left is better: {', '.join(best)} is ahead in both." if best else ""


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other one is as good as in both and better in one, by x."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(set(points)):
        if not front or y < front[-1][1]:
            front.append((x, y))
    return front


def _stairs(front: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return the line around what the front's points beat."""
    places = list(front[:1])
    for x, y in front[1:]:
        places += [(x, places[-1][1]), (x, y)]
    return tuple(places)
