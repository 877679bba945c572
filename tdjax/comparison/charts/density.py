"""Time against the part of steps that is real: what tables and pictures show of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tdjax.comparison import numbers
from tdjax.comparison.charts.axis import TIMES, Axis, up_to
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.density import percent
from tdjax.comparison.verdicts.entry import Entry, Group, grouped
from tdjax.comparison.verdicts.intervals import paired_ratio
from tdjax.comparison.verdicts.records import Record

IDEAL = "if padding were free"

# A line higher than this many times the time of all steps would flatten all other lines.
_HIGHEST = 2.0
_AIR = 1.12
_CLOSE = 0.09  # of the width: names of parts that are nearer than this would touch


@dataclass(frozen=True)
class StrategyLine:
    """A strategy at several parts of real steps.

    Attributes:
        strategy: its name.
        points: the part that is real and the entry that was measured there, in order.
        packs: whether it leaves masked steps out.
    """

    strategy: str
    points: tuple[tuple[float, Entry], ...]
    packs: bool

    @property
    def parts(self) -> list[float]:
        """The parts at which it was measured."""
        return [part for part, _ in self.points]

    @property
    def times_s(self) -> list[float]:
        """Its medians, in seconds."""
        return [entry.median_s or 0.0 for _, entry in self.points]

    @property
    def highest_s(self) -> float:
        """The longest of them."""
        return max(self.times_s)

    def at(self, part: float) -> float | None:
        """Return the median at a part, in seconds."""
        entry = self.entry(part)
        return None if entry is None else entry.median_s

    def entry(self, part: float) -> Entry | None:
        """Return what was measured at a part."""
        return next((entry for known, entry in self.points if known == part), None)


@dataclass(frozen=True)
class DensityChart:
    """A series of workloads that differ in their masks alone, on one target, in one mode.

    Attributes:
        group: target, evidence and mode, with the series in place of a workload.
        parts: the parts of all steps that are real, in order.
        lines: one for each strategy; those that pack come last, to be drawn above the others.
        ideal_s: the time of the fastest strategy that computes all steps where all are real;
            None where no mask keeps them all. If padding were free, a part of the steps would
            take that part of it.
    """

    group: Group
    parts: tuple[float, ...]
    lines: tuple[StrategyLine, ...]
    ideal_s: float | None

    @property
    def title(self) -> str:
        """Mode, evidence and target."""
        group = self.group
        return f"{naming.MODE_TITLES[group.mode]}, {group.evidence} on {group.target}"

    @property
    def caption(self) -> str:
        """How fast the strategies that pack are, and what the dashed line is."""
        sentences = []
        for line in self.lines:
            if line.packs:
                speeds = zip(self.speeds(line), self.part_names, strict=True)
                each = ", ".join(f"{numbers.speed(value)} at {name}" for value, name in speeds)
                packed = naming.short(line.strategy)
                sentences.append(f"Speed of {packed} against the fastest of the others: {each}.")
        if self.ideal_s is not None:
            sentences.append(
                "Dashed: the time of the fastest that computes all steps, if masked ones cost "
                "nothing."
            )
        return " ".join(sentences)

    @property
    def x(self) -> Axis:
        """The parts; names that would touch the next one are left out."""
        named = zip((0.0, *self.parts), ("0", *self.part_names), (*self.parts, 2.0), strict=True)
        ticks = tuple((part, name if after - part > _CLOSE else "") for part, name, after in named)
        return Axis("part of steps that is real", 0.0, 1.0, False, ticks)

    @property
    def y(self) -> Axis:
        """Time, up to the highest line that is inside."""
        highest = max(line.highest_s for line in self.lines)
        if self.ideal_s is not None:
            packed = [line.highest_s for line in self.lines if line.packs]
            highest = min(highest, max(_HIGHEST * self.ideal_s, *packed))
        return up_to(_AIR * highest, "time", TIMES)

    @property
    def inside(self) -> list[StrategyLine]:
        """The lines that a picture has room for."""
        return [line for line in self.lines if line.highest_s <= self.y.high]

    @property
    def left_out(self) -> str:
        """The lines that it has no room for, with their times; empty if there are none."""
        return ", ".join(
            f"{naming.short(line.strategy)} ({numbers.seconds(line.highest_s)})"
            for line in self.lines
            if line not in self.inside
        )

    @property
    def part_names(self) -> list[str]:
        """The parts as a person writes them."""
        return [percent(part) for part in self.parts]

    def speeds(self, line: StrategyLine) -> list[float | None]:
        """Return the speed of a line against the best that computes all steps, at each part."""
        found: list[float | None] = []
        for part in self.parts:
            found_there = [other.entry(part) for other in self.lines if not other.packs]
            rivals = [entry for entry in found_there if entry is not None]
            own = line.entry(part)
            if own is None or not rivals:
                found.append(None)
                continue
            best = min(rivals, key=lambda rival: rival.median_s or 0.0)
            found.append(paired_ratio(best.samples_s, own.samples_s).value)
        return found


def density_charts(comparison: Record) -> dict[Group, DensityChart]:
    """Return the chart of each series that was measured at several parts."""
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
    """Return the places nearest to these that keep a distance, in the same order."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    groups: list[tuple[float, int]] = []  # the middle of places that touch, and their count
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
        StrategyLine(strategy, tuple(sorted(points, key=lambda point: point[0])), _packs(strategy))
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
    found = naming.strategy_of(strategy)
    return found is not None and found.packs
