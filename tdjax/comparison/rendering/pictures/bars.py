"""Bars of speeds, by matplotlib: a row a workload, a column a mode, longer is better.

Places and sizes are in inches: text of 12 points is as large in a README, which is about as wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.charts.points import judged_groups
from tdjax.comparison.rendering.pictures import style
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.answers import AUTO, FOLD, Answer
from tdjax.comparison.verdicts.entry import Entry, Group
from tdjax.comparison.verdicts.metric import advantage, figure, heading, metric_of, shown
from tdjax.comparison.verdicts.records import Record

LINE, GAP, EDGE = 0.235, 0.16, 0.15
PANEL = 2.95
_WIDEST_NAME = 1.6
_AFTER = 0.08
_OTHER = "best other"
_KEY = "green: the fastest, or not told apart from it", "black line: 95% interval"
_STATUS = {"failed": "failed", "timeout": "cut: far slower", "ok": "not known"}


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: the strategy's short name, or what it stands for.
        kind: "lead" (among the fastest), "plain" or "cut".
        value, low, high: how many times as good as the reference, with an interval; None where
            nothing is known.
        said: what is written behind it.
    """

    label: str
    kind: str = "plain"
    value: float | None = None
    low: float | None = None
    high: float | None = None
    said: str = ""

    @property
    def end(self) -> float:
        """Where it ends, its interval included; not before the reference's line."""
        return max(1.0, self.value or 0.0, self.high or 0.0)


@dataclass(frozen=True)
class Bars:
    """A group's bars, what they are called together, and the lines that are written below them."""

    bars: tuple[Bar, ...]
    heading: str
    notes: tuple[str, ...] = ()


def all_bars(comparison: Record) -> dict[Group, Bars]:
    """Return the bars of each group: all strategies of one workload, the four that count of many.

    These are the reference, fold, auto, and the best of the others.
    """
    groups = list(judged_groups(comparison))
    usual = [comparison.reference, FOLD, AUTO]
    few = usual if len({group.workload for group, *_ in groups}) > 1 else []
    ran = {entry.strategy for entry in comparison.entries}
    return {
        group: bars_of(
            [entry for entry in entries if not entry.control],
            answer,
            comparison.reference,
            [name for name in dict.fromkeys(few) if name in ran],
        )
        for group, entries, answer in groups
    }


def bars_of(
    entries: Sequence[Entry], answer: Answer, reference: str, few: Sequence[str] = ()
) -> Bars:
    """Return a group's bars: of all its entries or, where few are named, of these and the best."""
    metric = metric_of(entries)
    ran = [entry for entry in entries if figure(entry, metric)]
    # Where the reference did not run, the first that did has length 1.
    base = next((e for e in ran if e.strategy == reference), next(iter(ran), None))
    lengths = {entry.strategy: advantage(entry, base, metric) for entry in entries}
    notes = ["unclear"] if answer.kind == "unclear" else []
    labels = {entry.strategy: naming.short(entry.strategy) for entry in entries}
    if few:
        labels = {name: name for name in few}
        own = {e.same_as or e.strategy for e in entries if e.strategy in labels}
        others = [e for e in ran if e.status == "ok" and (e.same_as or e.strategy) not in own]
        speeds = {e.strategy: each.value for e in others if (each := lengths[e.strategy])}
        if speeds:
            best = max(speeds, key=speeds.__getitem__)
            notes.append(f"{_OTHER}: {naming.short(best)}")
            labels[best] = _OTHER
    known = {entry.strategy: entry for entry in entries}
    bars = []
    for name, label in labels.items():
        entry, length = known.get(name), lengths.get(name)
        if entry is None or length is None:
            bars.append(Bar(label, said="" if entry is None else _STATUS[entry.status]))
            continue
        kind = "lead" if answer.leads(entry) else "plain" if entry.status == "ok" else "cut"
        said = (
            shown(figure(entry, metric), metric) if entry is base else numbers.speed(length.value)
        )
        bars.append(Bar(label, kind, *length, said))
    called = heading(metric, naming.short(base.strategy) if base else reference)
    return Bars(tuple(bars), called, tuple(style.fill(style.words("; ".join(notes)), PANEL)))


class Page:
    """A figure on which places are inches, from the left and from above."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self._width, self._height = width, height
        self.figure: Any = Figure(figsize=(width, height))

    def write(self, x: float, y: float, text: str, **look: Any) -> None:
        """Write text, its middle at y."""
        known = {"fontsize": style.LARGE, "color": style.INK, "va": "center_baseline"}
        self.figure.text(x / self._width, 1 - y / self._height, text, **{**known, **look})

    def lines(self, texts: Sequence[str], x: float, top: float, **look: Any) -> None:
        """Write texts below each other."""
        for place, text in enumerate(texts):
            self.write(x, top + LINE * (place + 0.5), text, **look)

    def rule(self, start: float, end: float, y: float) -> None:
        """Draw a thin line across."""
        from matplotlib.lines import Line2D

        xs, at = [start / self._width, end / self._width], 1 - y / self._height
        self.figure.add_artist(Line2D(xs, [at, at], color=style.LINE, linewidth=0.8))

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Return an empty panel."""
        at = left / self._width, 1 - (top + height) / self._height
        axes = self.figure.add_axes((*at, width / self._width, height / self._height))
        axes.set_axis_off()
        return axes

    def bars(self, chart: Bars, left: float, top: float, width: float, inch: float) -> None:
        """Draw a group's bars with what is written behind them, and their note below.

        Args:
            chart: the group's.
            left, top: where they begin.
            width: the room they have, with their labels.
            inch: how much a bar of an inch is worth.
        """
        count = len(chart.bars)
        axes = self.axes(left, top, width, LINE * count)
        axes.set(xlim=(0, width * inch), ylim=(count - 0.5, -0.5))
        for place, bar in enumerate(chart.bars):
            lead = bar.kind == "lead"
            if bar.value is not None:
                color = {"lead": style.LEAD, "cut": style.CUT}.get(bar.kind, style.BAR)
                axes.barh(place, bar.value, height=0.66, color=color, zorder=2)
            if bar.low is not None and bar.high is not None and bar.low < bar.high:
                ends = [bar.low, bar.high]
                axes.plot(ends, [place] * 2, color=style.INK, linewidth=1.3, zorder=4)
            at = (0.0 if bar.value is None else bar.end) + _AFTER * inch
            look = {"color": style.LEAD, "weight": "bold"} if lead else {"color": style.INK}
            if bar.value is None:
                look["color"] = style.SOFT
            axes.text(at, place, bar.said, va="center_baseline", fontsize=style.LARGE, **look)
        if any(bar.value is not None for bar in chart.bars):
            line = {"color": style.REFERENCE, "linestyle": style.DASHED, "linewidth": 1.2}
            axes.plot([1, 1], [-0.5, count - 0.5], zorder=3, **line)
        self.lines(chart.notes, left, top + LINE * count, color=style.SOFT)

    def labels(self, names: Sequence[str], right: float, top: float) -> None:
        """Write the bars' labels, which end here."""
        self.lines(names, right - 0.12, top, ha="right")


def inch_of(charts: Sequence[Bars], width: float) -> float:
    """Return how much a bar of an inch is worth, so that bars and their labels fit this width."""
    worth = 0.0
    for bar in (bar for chart in charts for bar in chart.bars):
        room = width - _AFTER - style.width(bar.said, bold=True)
        worth = max(worth, bar.end / max(room, 0.2 * width))
    return worth


def overview(charts: Mapping[Group, Bars], said: Sequence[str]) -> Any:
    """Return a figure of all bars, below what they were measured on."""
    modes = [mode for mode in naming.MODE_TITLES if any(group.mode == mode for group in charts)]
    rows: dict[tuple[str, ...], dict[str, Bars]] = {}
    for group, chart in charts.items():
        rows.setdefault(group[:3], {})[group.mode] = chart
    plain = {target for _, target, _ in rows} == {"cpu"}
    titles = {
        row: [
            *style.fill(naming.parts(row[0]), _WIDEST_NAME, bold=True),
            *([] if plain else [row[1]]),
        ]
        for row in rows
    }
    labels = {
        row: max(([bar.label for bar in chart.bars] for chart in lanes.values()), key=len)
        for row, lanes in rows.items()
    }
    names = max(style.width(line, bold=True) for lines in titles.values() for line in lines)
    first = EDGE + names + 0.2 + max(style.width(each) for own in labels.values() for each in own)
    first += 0.12
    width = first + len(modes) * (PANEL + GAP)
    about = style.fill(style.words(" · ".join([*said, *_KEY])), width - 2 * EDGE)
    top = EDGE + 0.35 + LINE * len(about) + 0.15
    below = {row: max(len(chart.notes) for chart in lanes.values()) for row, lanes in rows.items()}
    heights = {
        row: GAP + LINE * max(len(labels[row]) + below[row], len(titles[row])) for row in rows
    }
    page = Page(width, top + LINE + sum(heights.values()) + EDGE)
    heads = dict.fromkeys(chart.heading for chart in charts.values())
    head = f"{'; '.join(heads)}: longer is better"
    page.write(EDGE, EDGE + 0.12, head, weight="bold", fontsize=style.LARGE + 1)
    page.lines(about, EDGE, EDGE + 0.3, color=style.SOFT)
    lefts = {mode: first + place * (PANEL + GAP) for place, mode in enumerate(modes)}
    for mode, left in lefts.items():
        page.write(left, top + 0.1, naming.MODE_TITLES[mode], weight="bold")
    worth = {m: inch_of([row[m] for row in rows.values() if m in row], PANEL) for m in modes}
    y = top + LINE
    for row, lanes in rows.items():
        page.rule(EDGE, width - EDGE, y + 0.04)
        page.lines(titles[row], EDGE, y + GAP, weight="bold")
        page.labels(labels[row], first, y + GAP)
        for mode, chart in lanes.items():
            page.bars(chart, lefts[mode], y + GAP, PANEL, worth[mode])
        y += heights[row]
    return page.figure
