"""A group's bars, by matplotlib: time, cycles or bytes relative to the reference."""

from __future__ import annotations

from typing import Any, NamedTuple

from tdjax.comparison import numbers
from tdjax.comparison.charts.points import judged_groups
from tdjax.comparison.rendering.pictures import style
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry, Group
from tdjax.comparison.verdicts.metric import BYTES, CYCLES, TIME, figure, metric_of, shown
from tdjax.comparison.verdicts.records import Record
from tdjax.comparison.verdicts.verdict import Verdict

_LONGEST = 4.0
_TITLES = {TIME: "time", CYCLES: "estimated cycles", BYTES: "bytes"}


class Bars(NamedTuple):
    """A group's entries, what was found of them, and the strategy whose bar has length 1."""

    entries: list[Entry]
    verdict: Verdict | None
    reference: str

    @property
    def height(self) -> float:
        """What a panel of them takes, in inches."""
        return 1.05 + 0.27 * len(self.entries)

    def leads(self, entry: Entry) -> bool:
        """Whether the entry is the fastest, or level with it."""
        return self.verdict is not None and self.verdict.leads(entry)


def all_bars(comparison: Record) -> dict[Group, Bars]:
    """Return the bars of each group."""
    return {
        group: Bars(entries, verdict, comparison.reference)
        for group, entries, verdict in judged_groups(comparison)
    }


def draw_bars(axes: Any, chart: Bars) -> None:
    """Draw a group into a panel: a bar and an interval a candidate."""
    entries, reference = chart.entries, chart.reference
    metric = metric_of(entries)
    figures = {e.strategy: value for e in entries if (value := figure(e, metric))}
    base = figures.get(reference) or min(figures.values(), default=1.0)
    finished = [
        figures[e.strategy] / base for e in entries if e.status == "ok" and e.strategy in figures
    ]
    end = 1.08 * min(max([1.0, *finished]), _LONGEST * min([1.0, *finished]))
    style.bare(axes, f"{_TITLES[metric]} / {reference}", "x")
    for place, entry in enumerate(entries):
        _candidate(axes, entry, place, metric, base, end, chart.leads(entry))
    axes.axvline(1.0, color=style.REFERENCE, linestyle=style.DASHED, linewidth=1.1, zorder=1)
    axes.set_yticks(range(len(entries)), [naming.named(e) for e in entries])
    axes.set(ylim=(len(entries) - 0.4, -0.6), xlim=(0, end))
    for label, entry in zip(axes.get_yticklabels(), entries, strict=True):
        if chart.leads(entry):
            label.set(color=style.LEAD, fontweight="bold")
        else:
            label.set_color(style.INK)


def _candidate(
    axes: Any, entry: Entry, place: int, metric: str, base: float, end: float, leads: bool
) -> None:
    from matplotlib.patheffects import withStroke

    value = figure(entry, metric)
    if value is None:
        style.write(axes, 0.01 * end, place, _brief(entry), style.SOFT)
        return
    ratio = value / base
    color = style.LEAD if leads else style.BAR if entry.status == "ok" else style.CUT
    axes.barh(place, min(ratio, end), height=0.62, color=color, zorder=2)
    if ratio > end:  # A bar that is cut off must not look as if it ended there.
        beyond = f"{numbers.digits(ratio)} \N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
        style.write(axes, 0.99 * end, place, beyond, ha="right")
    label = shown(value, metric)
    if entry.same_as is not None:
        label += f"  = {naming.short(entry.same_as)}"
    if entry.status != "ok":
        label += f"  {_brief(entry)}"
    edge = ratio
    if entry.median_low_s is not None and entry.median_high_s is not None and ratio < end:
        low, edge = entry.median_low_s / base, entry.median_high_s / base
        axes.plot([low, edge], [place, place], color=style.INK, linewidth=1.1, zorder=3)
    inside = edge > 0.72 * end
    # The halo keeps text readable where a line crosses it.
    halo = [] if inside else [withStroke(linewidth=2.5, foreground=style.PAGE)]
    x, ink = 0.012 * end + (0 if inside else edge), style.PAGE if inside and leads else style.INK
    style.write(axes, x, place, label, ink, path_effects=halo, zorder=4)


def _brief(entry: Entry) -> str:
    error = naming.reason(entry)
    return error if len(error) <= 60 else error[:57] + "..."
