"""Time against the part of steps that is real, by matplotlib: a line a strategy, and the ideal."""

from __future__ import annotations

from typing import Any

from tdjax.comparison.charts.density import IDEAL, DensityChart, apart
from tdjax.comparison.rendering.pictures.colours import BAR, INK, LEAD, LINE, REFERENCE, SOFT, halo
from tdjax.comparison.verdicts import naming

# Of the panel's height, what a name takes.
_TALL = 0.062


def density_lines(axes: Any, chart: DensityChart) -> None:
    """Draw a series into a panel, the names of strategies to the right of their lines."""
    top = 1e3 * chart.top_s
    if chart.ideal_s is not None:
        axes.plot(
            [0, 1], [0, 1e3 * chart.ideal_s], color=REFERENCE, linestyle=(0, (4, 3)), linewidth=1.1
        )
        middle = (0.45, 450 * chart.ideal_s)
        beside = {"xytext": (6, -10), "textcoords": "offset points"}
        axes.annotate(IDEAL, middle, color=REFERENCE, fontsize=8, **beside)
    ends = [1e3 * line.end_s / top for line in chart.inside]
    for line, place in zip(chart.inside, apart(ends, _TALL), strict=True):
        colour, ink = (LEAD, LEAD) if line.packs else (BAR, INK)
        times = [1e3 * seconds for seconds in line.times_s]
        look = {"color": colour, "marker": "o", "markersize": 4, "linewidth": 1.8}
        axes.plot(line.parts, times, clip_on=False, zorder=3, **look)
        axes.annotate(
            naming.short(line.strategy),
            (line.parts[-1], times[-1]),
            xytext=(1.06, place),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=ink,
            path_effects=halo(),
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkB": 3},
        )
    axes.set_xlim(0, 1.0)
    axes.set_ylim(0, top)
    axes.set_xlabel(f"part of steps that is real{chart.left_out}", fontsize=8.5, color=SOFT)
    axes.set_ylabel("ms", fontsize=8.5, color=SOFT)
    axes.set_xticks([0, *chart.parts], ["0", *chart.part_names])
    axes.tick_params(axis="both", length=0, labelsize=8.5, colors=SOFT)
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
