"""A comparison as a picture, by matplotlib: one panel a workload and mode."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tdjax.comparison import atomic, wording
from tdjax.comparison.entry import Entry, Group, grouped
from tdjax.comparison.extras import need
from tdjax.comparison.metric import CYCLES, TIME, figure, metric_of, shown
from tdjax.comparison.result import Comparison
from tdjax.comparison.verdict import Verdict

_LONGEST = 4.0
_LEAD, _BAR, _CUT, _REFERENCE = "#0f8a7e", "#a9b8cf", "#e3cdc7", "#c2572b"
_INK, _SOFT, _LINE = "#1b2330", "#5d6879", "#dde2ea"


def plot(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Draw the comparison into a file; see `Comparison.plot`."""
    need("matplotlib", "plots")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    groups = grouped(comparison.entries)
    verdicts = {verdict.group: verdict for verdict in comparison.verdicts}
    rows = list(dict.fromkeys((g.workload, g.target, g.evidence) for g in groups))
    modes = [mode for mode in wording.MODE_TITLES if any(g.mode == mode for g in groups)]
    heights = [_height(groups, row) for row in rows]
    figure = Figure(
        figsize=(1.2 + 6.4 * max(len(modes), 1), 1.1 + sum(heights)),
        layout=ConstrainedLayoutEngine(hspace=0.06, wspace=0.05, w_pad=0.12, h_pad=0.1),
    )
    figure.suptitle(
        _headline(comparison), x=0.01, ha="left", fontsize=10, color=_SOFT, fontweight="normal"
    )
    panels = figure.subplots(
        max(len(rows), 1), max(len(modes), 1), squeeze=False, height_ratios=heights or None
    )
    for row, lane in zip(rows, panels, strict=False):
        for mode, axes in zip(modes, lane, strict=False):
            group = Group(*row, mode)
            if group in groups:
                _panel(axes, groups[group], verdicts.get(group), group, comparison.reference)
            else:
                axes.set_axis_off()
    picture = io.BytesIO()
    kind = Path(path).suffix.lstrip(".") or "png"
    figure.savefig(picture, format=kind, dpi=150, facecolor="white")
    return atomic.write(path, picture.getvalue())


def _height(groups: dict[Group, list[Entry]], row: tuple[str, str, str]) -> float:
    longest = max(len(entries) for group, entries in groups.items() if group[:3] == row)
    return 0.85 + 0.27 * longest


def _headline(comparison: Comparison) -> str:
    known = comparison.environment
    parts = (
        f"relative to {comparison.reference}, shorter is better",
        known.get("devices"),
        known.get("processor"),
        f"{known.get('cores')} cores",
        f"jax {known.get('jax')}",
    )
    return "   ·   ".join(str(part) for part in parts if part)


def _panel(
    axes: Any,
    entries: Sequence[Entry],
    verdict: Verdict | None,
    group: Group,
    reference: str,
) -> None:
    metric = metric_of(entries)
    figures = {e.strategy: value for e in entries if (value := figure(e, metric))}
    base = figures.get(reference) or min(figures.values(), default=1.0)
    finished = [figures[e.strategy] / base for e in entries if _finished(e, figures)]
    end = 1.08 * min(max([1.0, *finished]), _LONGEST * min([1.0, *finished]))
    for place, entry in enumerate(entries):
        leads = verdict is not None and verdict.leads(entry)
        _candidate(axes, entry, place, metric, base, end, leads)
    axes.axvline(1.0, color=_REFERENCE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
    axes.set_yticks(range(len(entries)), [wording.short(e.strategy) for e in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xlim(0, end)
    for label, entry in zip(axes.get_yticklabels(), entries, strict=True):
        if verdict is not None and verdict.leads(entry):
            label.set(color=_LEAD, fontweight="bold")
    axes.tick_params(axis="both", length=0, labelsize=8.5, colors=_INK)
    axes.tick_params(axis="x", colors=_SOFT)
    axes.grid(axis="x", color=_LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    title = f"{group.workload}, {wording.MODE_TITLES[group.mode]}"
    if group.target != "cpu":
        title += f", {group.target}"
    if metric != TIME and figures:
        title += ": estimated cycles" if metric == CYCLES else ": bytes"
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=_INK)
    if verdict is not None:
        axes.set_title(verdict.kind, loc="right", fontsize=9.5, color=_SOFT)


def _finished(entry: Entry, figures: Mapping[str, float]) -> bool:
    return entry.status == "ok" and entry.strategy in figures


def _candidate(
    axes: Any, entry: Entry, place: int, metric: str, base: float, end: float, leads: bool
) -> None:
    colour = _LEAD if leads else _BAR if entry.status == "ok" else _CUT
    value = figure(entry, metric)
    if value is None:
        axes.text(0.01 * end, place, _brief(entry), va="center", fontsize=8, color=_SOFT)
        return
    ratio = value / base
    axes.barh(place, min(ratio, end), height=0.62, color=colour, zorder=2)
    label = shown(value, metric)
    if entry.same_as is not None:
        label += f"  = {wording.short(entry.same_as)}"
    if entry.status != "ok":
        label += f"  {_brief(entry)}"
    edge = ratio
    if entry.median_low_s is not None and entry.median_high_s is not None and ratio < end:
        low, edge = entry.median_low_s / base, entry.median_high_s / base
        axes.plot([low, edge], [place, place], color=_INK, linewidth=1.1, zorder=3)
    inside = edge > 0.72 * end
    axes.text(
        0.012 * end if inside else edge + 0.012 * end,
        place,
        label,
        va="center",
        ha="left",
        fontsize=8,
        color="white" if inside and leads else _INK,
        zorder=4,
    )


def _brief(entry: Entry) -> str:
    error = wording.reason(entry)
    return error if len(error) <= 60 else error[:57] + "..."
