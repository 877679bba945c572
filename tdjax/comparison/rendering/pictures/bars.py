"""A group's bars, by matplotlib: time, cycles or bytes relative to the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.rendering.pictures.colours import (
    BAR,
    CUT,
    INK,
    LEAD,
    LINE,
    REFERENCE,
    SOFT,
    halo,
)
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.metric import CYCLES, TIME, figure, metric_of, shown
from tdjax.comparison.verdicts.verdict import Verdict

_LONGEST = 4.0


def bars(axes: Any, entries: Sequence[Entry], verdict: Verdict | None, reference: str) -> None:
    """Draw a group into a panel: a bar and an interval a candidate."""
    metric = metric_of(entries)
    figures = {e.strategy: value for e in entries if (value := figure(e, metric))}
    base = figures.get(reference) or min(figures.values(), default=1.0)
    finished = [figures[e.strategy] / base for e in entries if _finished(e, figures)]
    end = 1.08 * min(max([1.0, *finished]), _LONGEST * min([1.0, *finished]))
    for place, entry in enumerate(entries):
        leads = verdict is not None and verdict.leads(entry)
        _candidate(axes, entry, place, metric, base, end, leads)
    axes.axvline(1.0, color=REFERENCE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
    axes.set_yticks(range(len(entries)), [naming.named(e) for e in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xlim(0, end)
    for label, entry in zip(axes.get_yticklabels(), entries, strict=True):
        if verdict is not None and verdict.leads(entry):
            label.set(color=LEAD, fontweight="bold")
    axes.tick_params(axis="both", length=0, labelsize=8.5, colors=INK)
    axes.tick_params(axis="x", colors=SOFT)
    axes.grid(axis="x", color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def subtitle(entries: Sequence[Entry]) -> str:
    """Return what the bars are, empty where it is time."""
    metric = metric_of(entries)
    if metric == TIME:
        return ""
    return "estimated cycles" if metric == CYCLES else "bytes"


def _finished(entry: Entry, figures: Mapping[str, float]) -> bool:
    return entry.status == "ok" and entry.strategy in figures


def _candidate(
    axes: Any, entry: Entry, place: int, metric: str, base: float, end: float, leads: bool
) -> None:
    colour = LEAD if leads else BAR if entry.status == "ok" else CUT
    value = figure(entry, metric)
    if value is None:
        axes.text(0.01 * end, place, _brief(entry), va="center", fontsize=8, color=SOFT)
        return
    ratio = value / base
    axes.barh(place, min(ratio, end), height=0.62, color=colour, zorder=2)
    if ratio > end:  # A bar that is cut off must not be taken for one that ends there.
        beyond = f"{numbers.digits(ratio)} \N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
        axes.text(0.99 * end, place, beyond, va="center", ha="right", fontsize=8, color=INK)
    label = shown(value, metric)
    if entry.same_as is not None:
        label += f"  = {naming.short(entry.same_as)}"
    if entry.status != "ok":
        label += f"  {_brief(entry)}"
    edge = ratio
    if entry.median_low_s is not None and entry.median_high_s is not None and ratio < end:
        low, edge = entry.median_low_s / base, entry.median_high_s / base
        axes.plot([low, edge], [place, place], color=INK, linewidth=1.1, zorder=3)
    inside = edge > 0.72 * end
    axes.text(
        0.012 * end if inside else edge + 0.012 * end,
        place,
        label,
        va="center",
        ha="left",
        fontsize=8,
        color="white" if inside and leads else INK,
        path_effects=[] if inside else halo(),
        zorder=4,
    )


def _brief(entry: Entry) -> str:
    error = naming.reason(entry)
    return error if len(error) <= 60 else error[:57] + "..."
