"""What all pictures share: colors, and the look of a panel."""

from __future__ import annotations

from typing import Any

from tdjax.comparison.charts.axis import Axis

# The report replaces these by variables of its stylesheet, so that they follow its dark mode.
LEAD, BAR, CUT, REFERENCE = "#0f8a7e", "#a9b8cf", "#d9b4ab", "#c2572b"
DOT, INK, SOFT, LINE, PAGE = "#6f83a3", "#1b2330", "#5d6879", "#dde2ea", "#ffffff"

SMALL = 8.5
DASHED = (0, (4, 3))


def bare(axes: Any, x_title: str, grid: str = "both") -> None:
    """Give a panel a grid, no frame, and the title of x."""
    axes.tick_params(which="both", length=0, labelsize=SMALL, colors=SOFT)
    axes.grid(axis=grid, color=LINE, linewidth=0.7, clip_on=False)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(x_title, loc="right", fontsize=SMALL, color=SOFT)


def frame(axes: Any, x: Axis, y: Axis) -> None:
    """Give a panel these axes, the title of y above it."""
    bare(axes, x.title)
    axes.spines["bottom"].set(visible=True, color=SOFT, linewidth=0.8)
    axes.set(xscale="log" if x.log else "linear", yscale="log" if y.log else "linear")
    for side, axis in ((axes.xaxis, x), (axes.yaxis, y)):
        side.set_ticks([value for value, _ in axis.ticks], [text for _, text in axis.ticks])
    axes.minorticks_off()
    axes.set(xlim=(x.low, x.high), ylim=(y.low, y.high))
    axes.set_title(y.title, loc="left", fontsize=SMALL, color=SOFT, pad=5)


def write(axes: Any, x: float, y: float, text: str, color: str = INK, **look: Any) -> None:
    """Write small text into a panel, by default with its middle at y."""
    axes.text(x, y, text, color=color, fontsize=SMALL, **{"va": "center", **look})
