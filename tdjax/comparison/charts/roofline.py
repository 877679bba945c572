"""The roofline model: what limits a program, the device's arithmetic or its memory."""

from __future__ import annotations

from collections.abc import Sequence

from tdjax.comparison import numbers
from tdjax.comparison.charts import axis
from tdjax.comparison.charts.points import (
    BOUND,
    CUT,
    LEAD,
    PLAIN,
    Chart,
    Line,
    Point,
    left_out,
    programs,
)
from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.verdict import Verdict

_ROOM = 2.5
# How much longer the axis is, in powers, so that the flat roof has room for its figure.
_FLAT = 0.4


def intensity(entry: Entry) -> float | None:
    """Return the flops a byte of the optimised program, None where they are not known."""
    if not entry.flops or not entry.bytes_accessed:
        return None
    return entry.flops / entry.bytes_accessed


def chart(
    entries: Sequence[Entry], verdict: Verdict | None, ceilings: Ceilings | None
) -> Chart | None:
    """Return a group's chart, None where its device's ceilings or its flops are not known.

    What was compiled for a device that is not here has no time: its points are on the roof.
    """
    if ceilings is None:
        return None
    measured = entries[0].evidence == "measured"
    points, absent = [], []
    for entry, label in programs(entries):
        x = intensity(entry)
        if (
            x is None
            or (measured and not entry.median_s)
            or (not measured and entry.status != "ok")
        ):
            absent.append(label)
            continue
        leads = verdict is not None and verdict.leads(entry)
        assert entry.flops is not None
        y = entry.flops / entry.median_s if measured and entry.median_s else ceilings.at(x)
        kind = CUT if entry.status != "ok" else LEAD if leads else PLAIN
        most = "" if measured else "at most "
        said = f"{numbers.digits(x)} flops a byte, {most}{rate(y)}"
        points.append(Point(x, y, label, said, kind if measured else BOUND, leads))
    if not points:
        return None
    ends = [point.x for point in points]
    low, high = min(*ends, ceilings.ridge) / _ROOM, max(*ends, ceilings.ridge)
    high *= max(_ROOM, (high / low) ** _FLAT)
    lowest = min([ceilings.at(low) * _ROOM, *(point.y for point in points)]) / _ROOM
    highest = max([ceilings.flops_per_s, *(point.y for point in points)]) * _ROOM
    ridge = (ceilings.ridge, ceilings.flops_per_s)
    start = max(low, lowest / ceilings.bytes_per_s)
    return Chart(
        "Roofline" if measured else "Roofline: bounds, not speeds",
        axis.between(low, high, "flops a byte", axis.PLAIN),
        axis.between(lowest, highest, "reached" if measured else "at most", axis.FLOPS),
        tuple(points),
        (
            Line(((start, ceilings.at(start)), ridge), "roof", bandwidth(ceilings)),
            Line((ridge, (high, ceilings.flops_per_s)), "roof", rate(ceilings.flops_per_s)),
        ),
        _caption(points, ceilings, measured) + left_out(absent),
    )


def roofs(ceilings: Ceilings) -> str:
    """Return both ceilings in words."""
    return f"{rate(ceilings.flops_per_s)} and {bandwidth(ceilings)}"


def bandwidth(ceilings: Ceilings) -> str:
    """Return the bytes a second with a prefix."""
    return _prefixed(ceilings.bytes_per_s, "B/s")


def rate(flops_per_s: float) -> str:
    """Return flops a second with a prefix."""
    return _prefixed(flops_per_s, "flop/s")


def _caption(points: Sequence[Point], ceilings: Ceilings, measured: bool) -> str:
    said = [f"Roofs: {roofs(ceilings)}."]
    bounds = {
        "memory": [point.label for point in points if point.x < ceilings.ridge],
        "compute": [point.label for point in points if point.x >= ceilings.ridge],
    }
    if measured:
        if any(ceilings.at(point.x) < point.y <= ceilings.flops_per_s for point in points):
            said.append("A point above the slope has its data in caches.")
        if any(point.y > ceilings.flops_per_s for point in points):
            said.append(
                "A point above the flat roof says that it was measured too low, on a busy "
                "machine or for a slower type."
            )
    else:
        said.append("Nothing ran: a point is the most that its flops a byte allow.")
    for what, labels in bounds.items():
        if len(labels) == len(points):
            said.append(f"All are bound by {what}.")
        elif labels:
            said.append(f"Bound by {what}: {', '.join(labels)}.")
    return " ".join(said)


def _prefixed(value: float, unit: str) -> str:
    for prefix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= scale:
            return f"{numbers.digits(value / scale)} {prefix}{unit}"
    return f"{value:.0f} {unit}"
