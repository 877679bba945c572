"""A group's bars, by matplotlib: time, cycles or bytes relative to the reference."""

from __future__ import annotations

from typing import Any, NamedTuple

from tdjax.comparison import numbers
from tdjax.comparison.charts.points import judged_groups
from tdjax.comparison.rendering.pictures import style
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.answers import Answer
from tdjax.comparison.verdicts.entry import Entry, Group
from tdjax.comparison.verdicts.intervals import Interval
from tdjax.comparison.verdicts.metric import (
    BYTES,
    CYCLES,
    advantage,
    figure,
    heading,
    metric_of,
    shown,
)
from tdjax.comparison.verdicts.records import Record

_TITLES = {CYCLES: ", estimated cycles", BYTES: ", bytes"}


class Bars(NamedTuple):
    """A group's entries, what they say, and the strategy whose bar has length 1."""

    entries: list[Entry]
    answer: Answer
    reference: str

    @property
    def height(self) -> float:
        """What a panel of them takes, in inches."""
        return 1.05 + 0.27 * len(self.entries)


def all_bars(comparison: Record) -> dict[Group, Bars]:
    """Return the bars of each group."""
    return {
        group: Bars(entries, answer, comparison.reference)
        for group, entries, answer in judged_groups(comparison)
    }


def draw_bars(axes: Any, chart: Bars) -> None:
    """Draw a group into a panel: a bar and an interval a candidate, longer is better."""
    entries, reference = chart.entries, chart.reference
    metric = metric_of(entries)
    # Where the reference did not run, the first that did has length 1.
    ran = [entry for entry in entries if figure(entry, metric)]
    against = next((e for e in ran if e.strategy == reference), next(iter(ran), None))
    base = reference if against is None else naming.short(against.strategy)
    lengths = {entry.strategy: advantage(entry, against, metric) for entry in entries}
    end = 1.08 * max([1.0, *(each.high or each.value for each in lengths.values() if each)])
    style.bare(axes, heading(metric, base) + _TITLES.get(metric, ""), "x")
    for place, entry in enumerate(entries):
        leads = chart.answer.leads(entry)
        _candidate(axes, entry, place, metric, lengths[entry.strategy], end, leads)
    axes.axvline(1.0, color=style.REFERENCE, linestyle=style.DASHED, linewidth=1.1, zorder=1)
    axes.set_yticks(range(len(entries)), [naming.named(e) for e in entries])
    axes.set(ylim=(len(entries) - 0.4, -0.6), xlim=(0, end))
    for label, entry in zip(axes.get_yticklabels(), entries, strict=True):
        if chart.answer.leads(entry):
            label.set(color=style.LEAD, fontweight="bold")
        else:
            label.set_color(style.INK)


def _candidate(
    axes: Any,
    entry: Entry,
    place: int,
    metric: str,
    length: Interval | None,
    end: float,
    leads: bool,
) -> None:
    from matplotlib.patheffects import withStroke

    if length is None:
        style.write(axes, 0.01 * end, place, _brief(entry), style.SOFT)
        return
    color = style.LEAD if leads else style.BAR if entry.status == "ok" else style.CUT
    axes.barh(place, length.value, height=0.62, color=color, zorder=2)
    amount = shown(figure(entry, metric), metric)
    label = f"{numbers.speed(length.value)}  {amount}"
    if entry.status != "ok":
        label = f"{amount}  {_brief(entry)}"
    edge = length.value
    if length.low is not None and length.high is not None and length.low < length.high:
        edge = length.high
        ends = [length.low, length.high]
        axes.plot(ends, [place, place], color=style.INK, linewidth=1.1, zorder=3)
    inside = edge > 0.66 * end
    # The halo keeps text readable where a line crosses it.
    halo = [] if inside else [withStroke(linewidth=2.5, foreground=style.PAGE)]
    x, ink = 0.012 * end + (0 if inside else edge), style.PAGE if inside and leads else style.INK
    style.write(axes, x, place, label, ink, path_effects=halo, zorder=4)


def _brief(entry: Entry) -> str:
    error = naming.reason(entry)
    return error if len(error) <= 60 else error[:57] + "..."
