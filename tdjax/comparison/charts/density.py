"""Time against the part of steps that is real: what tables, pictures and the report show of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tdjax.comparison import numbers
from tdjax.comparison.subjects.partitioned import strategy_of
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.density import percent
from tdjax.comparison.verdicts.entry import Entry, Group, grouped
from tdjax.comparison.verdicts.records import Record

IDEAL = "if padding were free"

# What takes longer than so many times the ideal of all steps would press all else together.
_HIGHEST = 2.0
_AIR = 1.12


@dataclass(frozen=True)
class Line:
    """A strategy at several parts of real steps.

    Attributes:
        strategy: its name.
        points: the part that is real, and the entry that was measured there; in order.
        packs: whether it leaves masked steps out.
    """

    strategy: str
    points: tuple[tuple[float, Entry], ...]
    packs: bool

    @property
    def parts(self) -> list[float]:
        """The parts that it was measured at."""
        return [part for part, _ in self.points]

    @property
    def times_s(self) -> list[float]:
        """Its medians, in seconds."""
        return [entry.median_s or 0.0 for _, entry in self.points]

    @property
    def end_s(self) -> float:
        """What it takes where most steps are real, in seconds."""
        return self.times_s[-1]

    def at(self, part: float) -> float | None:
        """Return the median at a part, in seconds."""
        return next((entry.median_s for known, entry in self.points if known == part), None)


@dataclass(frozen=True)
class DensityChart:
    """A series of workloads that differ by their masks alone, on one target, in one mode.

    Attributes:
        group: it, with the series in the place of a workload.
        parts: the parts of all steps that are real, in order.
        lines: one a strategy, those that pack last: they are drawn above the others.
        ideal_s: what the fastest strategy that computes all steps takes for as many as there
            are; None where no mask keeps them all. Padding that is free takes its part of it.
    """

    group: Group
    parts: tuple[float, ...]
    lines: tuple[Line, ...]
    ideal_s: float | None

    @property
    def top_s(self) -> float:
        """The time at which a picture ends."""
        highest = max(max(line.times_s) for line in self.lines)
        if self.ideal_s is None:
            return _AIR * highest
        packed = [max(line.times_s) for line in self.lines if line.packs]
        return _AIR * min(highest, max(_HIGHEST * self.ideal_s, *packed))

    @property
    def inside(self) -> list[Line]:
        """The lines that a picture has room for."""
        return [line for line in self.lines if max(line.times_s) <= self.top_s]

    @property
    def left_out(self) -> str:
        """The lines that it has not, as the end of a sentence; empty if there are none."""
        names = [
            f"{naming.short(line.strategy)} ({numbers.seconds(max(line.times_s))})"
            for line in self.lines
            if line not in self.inside
        ]
        return f"; above the picture: {', '.join(names)}" if names else ""

    @property
    def part_names(self) -> list[str]:
        """The parts as a person writes them."""
        return [percent(part) for part in self.parts]

    def speeds(self, line: Line) -> list[float | None]:
        """Return how many times as fast a line is as the best that computes all steps, by part."""
        found = []
        for part in self.parts:
            rivals = [other.at(part) for other in self.lines if not other.packs]
            known = [seconds for seconds in rivals if seconds is not None]
            own = line.at(part)
            found.append(min(known) / own if known and own is not None else None)
        return found


def density_charts(comparison: Record) -> dict[Group, DensityChart]:
    """Return the chart of each series that was measured at several parts, by its group."""
    found: dict[Group, dict[str, list[tuple[float, Entry]]]] = {}
    for group, entries in grouped(comparison.entries).items():
        density = comparison.densities.get(group.workload)
        if density is None or group.evidence != "measured":
            continue
        lines = found.setdefault(group._replace(workload=density.series), {})
        for entry in entries:
            if entry.median_s is not None and not entry.control:
                lines.setdefault(entry.strategy, []).append((density.part, entry))
    charts = (_chart(group, lines) for group, lines in found.items() if lines)
    return {chart.group: chart for chart in charts if len(chart.parts) > 1}


def apart(places: Sequence[float], least: float) -> list[float]:
    """Return places as near to these as can be that keep a distance, in the same order."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    groups: list[tuple[float, int]] = []  # the middle of some that touch, and how many they are
    for index in order:
        middle, count = places[index], 1
        while groups and middle - groups[-1][0] < least * (count + groups[-1][1]) / 2:
            below, fewer = groups.pop()
            middle = (middle * count + below * fewer) / (count + fewer)
            count += fewer
        groups.append((middle, count))
    spread = [
        middle + least * (number - (count - 1) / 2)
        for middle, count in groups
        for number in range(count)
    ]
    return [place for _, place in sorted(zip(order, spread, strict=True))]


def _chart(group: Group, lines: Mapping[str, Sequence[tuple[float, Entry]]]) -> DensityChart:
    drawn = [
        Line(strategy, tuple(sorted(points, key=lambda point: point[0])), _packs(strategy))
        for strategy, points in lines.items()
    ]
    whole = [line.at(1.0) for line in drawn if not line.packs]
    return DensityChart(
        group,
        tuple(sorted({part for line in drawn for part, _ in line.points})),
        tuple(sorted(drawn, key=lambda line: line.packs)),
        min((seconds for seconds in whole if seconds is not None), default=None),
    )


def _packs(strategy: str) -> bool:
    found = strategy_of(strategy)
    return found is not None and found.packs
