"""The roofline model: what limits a program, the device's arithmetic or its memory."""

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
from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.verdicts.answers import Answer
from tdjax.comparison.verdicts.entry import Entry, Group
from tdjax.comparison.verdicts.records import Record

_ROOM = 2.5
# The power of its own range by which the axis is longer, so that the flat roof's label fits.
_FLAT = 0.4


def intensity(entry: Entry) -> float | None:
    """Return the flops a byte of the optimized program, or None where they are not known."""
    if not entry.flops or not entry.bytes_accessed:
        return None
    return entry.flops / entry.bytes_accessed


def charts(comparison: Record) -> dict[Group, Chart]:
    """Return the chart of each group that has one."""
    return {
        group: found
        for group, entries, answer in judged_groups(comparison)
        if (found := chart(entries, answer, comparison.ceilings.get(group.target)))
    }


def chart(entries: Sequence[Entry], answer: Answer, ceilings: Ceilings | None) -> Chart | None:
    """Return a group's chart, or None where its device's ceilings or its flops are not known.

    What was compiled for a device that is not here has no time: its points lie on the roof.
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
        leads = answer.leads(entry)
        assert entry.flops is not None
        y = entry.flops / entry.median_s if measured and entry.median_s else ceilings.at(x)
        most = "" if measured else "at most "
        said = f"{numbers.digits(x)} flops a byte, {most}{rate(y)}"
        kind = kind_of(entry, leads) if measured else "bound"
        points.append(Point(x, y, label, said, kind, leads))
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
        axis.between(low, high, "flops a byte", axis.PURE),
        axis.between(lowest, highest, "reached" if measured else "at most", axis.FLOPS),
        tuple(points),
        (
            Polyline(((start, ceilings.at(start)), ridge), "roof", bandwidth(ceilings)),
            Polyline((ridge, (high, ceilings.flops_per_s)), "roof", rate(ceilings.flops_per_s)),
        ),
        _caption(points, ceilings, measured) + left_out(absent),
    )


def roofs(ceilings: Ceilings) -> str:
    """Return both ceilings in words."""
    return f"{rate(ceilings.flops_per_s)} and {bandwidth(ceilings)}"


def bandwidth(ceilings: Ceilings) -> str:
    """Return the bytes a second with a prefix."""
    return numbers.amount(ceilings.bytes_per_s, "B/s")


def rate(flops_per_s: float) -> str:
    """Return flops a second with a prefix."""
    return numbers.amount(flops_per_s, "flop/s")


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
                "A point above the flat roof shows that the roof was measured too low, on a busy "
                "machine or for a slower data type."
            )
    else:
        said.append("Nothing ran: a point is the most that its flops a byte allow.")
    for what, labels in bounds.items():
        if len(labels) == len(points):
            said.append(f"All are bound by {what}.")
        elif labels:
            said.append(f"Bound by {what}: {', '.join(labels)}.")
    return " ".join(said)
