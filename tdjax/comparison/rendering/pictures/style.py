"""What all pictures share: colors, and the look of a panel."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from tdjax.comparison.charts.axis import Axis

# The report replaces these by variables of its stylesheet, so that they follow its dark mode.
LEAD, BAR, CUT, REFERENCE = "#0f8a7e", "#a9b8cf", "#d9b4ab", "#c2572b"
DOT, INK, SOFT, LINE, PAGE = "#6f83a3", "#1b2330", "#5d6879", "#dde2ea", "#ffffff"
# Those of its dark mode, for pictures that follow it themselves.
IN_DARK = {
    LEAD: "#2fb5a6", BAR: "#4b5d7a", CUT: "#6d4a44", REFERENCE: "#f0895d",
    DOT: "#8ea3c4", INK: "#e8ecf2", SOFT: "#9aa6b8", LINE: "#2d3644", PAGE: "#1a2029",
}  # fmt: skip

SMALL, LARGE = 8.5, 12.0
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


@functools.cache
def width(text: str, size: float = LARGE, bold: bool = False) -> float:
    """Return the width of a text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text, prop=font).get_extents().width) / 72 if text else 0.0


def words(text: str) -> list[str]:
    """Return the words of a text, each with the space behind it."""
    return re.findall(r"\S+ ?", text)


def fill(parts: Sequence[str], widest: float, bold: bool = False) -> list[str]:
    """Return the parts of a text in lines of a width in inches, at least one part a line."""
    lines = [""]
    for part in parts:
        if lines[-1] and width((lines[-1] + part).rstrip(), bold=bold) > widest:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines if line]
