"""Time against the part of steps that is real, by matplotlib: a line a strategy, and the ideal."""

from __future__ import annotations

from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.charts.density import IDEAL, DensityChart, apart
from tdjax.comparison.rendering.pictures import style
from tdjax.comparison.rendering.pictures.svg import marked
from tdjax.comparison.verdicts import naming

# The height of a name, as a part of the panel's.
_TALL = 0.07


def density_lines(axes: Any, chart: DensityChart) -> None:
    """Draw a series into a panel, the names of strategies to the right of their lines."""
    time = chart.y
    style.frame(axes, chart.x, time)
    if chart.ideal_s is not None:
        look = {"color": style.REFERENCE, "linestyle": style.DASHED, "linewidth": 1.1}
        axes.plot([0, 1], [0, chart.ideal_s], gid=marked("free"), **look)
        style.write(axes, 0.53, chart.ideal_s / 2, IDEAL, style.REFERENCE, va="top")
    heights = apart([time.at(line.times_s[-1]) for line in chart.inside], _TALL)
    for line, height in zip(chart.inside, heights, strict=True):
        color, ink, wide, size = style.DOT, style.INK, 1.2, 4.5
        if line.packs:
            color, ink, wide, size = style.LEAD, style.LEAD, 2.0, 6.0
        name = naming.short(line.strategy)
        gid = marked("course ahead" if line.packs else "course")
        axes.plot(line.parts, line.times_s, color=color, linewidth=wide, zorder=3, gid=gid)
        for part, seconds in zip(line.parts, line.times_s, strict=True):
            gid = marked("point", f"{name}, {part:.3g} real: {numbers.seconds(seconds)}")
            look = {"color": color, "markersize": size, "markeredgecolor": style.PAGE}
            axes.plot(part, seconds, "o", clip_on=False, zorder=4, gid=gid, **look)
        axes.annotate(
            name,
            (line.parts[-1], line.times_s[-1]),
            xytext=(1.07, height),
            textcoords="axes fraction",
            va="center",
            size=style.SMALL,
            color=ink,
            weight="bold" if line.packs else "normal",
            arrowprops={"arrowstyle": "-", "color": style.SOFT, "linewidth": 0.6, "shrinkB": 4},
        )
    if chart.left_out:
        above = f"\N{UPWARDS ARROW} {chart.left_out}"
        style.write(axes, 0.01, 0.99, above, style.SOFT, va="top", transform=axes.transAxes)
