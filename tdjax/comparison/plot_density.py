"""Time against the part of steps that is real, by matplotlib: a line a strategy, and the ideal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tdjax.comparison import wording
from tdjax.comparison.densities import Density
from tdjax.comparison.entry import Entry, Group
from tdjax.comparison.plot_colours import BAR, INK, LEAD, LINE, REFERENCE, SOFT, halo

Lines = dict[str, list[tuple[float, float]]]


def series(
    groups: Mapping[Group, list[Entry]], densities: Mapping[str, Density]
) -> dict[Group, Lines]:
    """Return, for each series, target and mode, the points of each strategy: part and seconds."""
    found: dict[Group, Lines] = {}
    for group, entries in groups.items():
        density = densities.get(group.workload)
        if density is None or group.evidence != "measured":
            continue
        lines = found.setdefault(group._replace(workload=density.series), {})
        for entry in entries:
            if entry.median_s is not None and not entry.control:
                lines.setdefault(entry.strategy, []).append((density.part, entry.median_s))
    drawn = {group: lines for group, lines in found.items() if max(map(len, lines.values())) > 1}
    return {
        group: {strategy: sorted(points) for strategy, points in lines.items()}
        for group, lines in drawn.items()
    }


def ideal_s(lines: Lines) -> float | None:
    """Return the time for all steps of the fastest strategy that computes all of them."""
    whole = [
        seconds
        for strategy, points in lines.items()
        for part, seconds in points
        if part == 1.0 and not _packs(strategy)
    ]
    return min(whole, default=None)


def density_lines(axes: Any, lines: Lines) -> None:
    """Draw a series into a panel."""
    highest = max(seconds for points in lines.values() for _, seconds in points)
    ideal = ideal_s(lines)
    if ideal is not None:
        axes.plot([0, 1], [0, 1e3 * ideal], color=REFERENCE, linestyle=(0, (4, 3)), linewidth=1.1)
        axes.annotate("ideal", (0.5, 500 * ideal), color=REFERENCE, fontsize=8, va="top")
    for strategy, points in lines.items():
        colour = LEAD if _packs(strategy) else BAR
        parts, seconds = zip(*points, strict=True)
        times = [1e3 * value for value in seconds]
        axes.plot(parts, times, color=colour, marker="o", markersize=4, linewidth=1.8)
        axes.annotate(
            wording.short(strategy),
            (parts[0], times[0]),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=8,
            color=LEAD if _packs(strategy) else INK,
            path_effects=halo(),
        )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.15e3 * highest)
    axes.set_xlabel("part of steps that is real", fontsize=8.5, color=SOFT)
    axes.set_ylabel("ms", fontsize=8.5, color=SOFT)
    axes.tick_params(axis="both", length=0, labelsize=8.5, colors=SOFT)
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def _packs(strategy: str) -> bool:
    return strategy.lower().startswith("packed")
