"""A chart of labeled points, by matplotlib."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

from tdjax.comparison.charts.labels import Box, place_along, place_labels
from tdjax.comparison.charts.points import Chart, Point
from tdjax.comparison.rendering.pictures import style
from tdjax.comparison.rendering.pictures.svg import marked

# Labels are placed in pixels of 1/96 inch; sizes of text and dots are points of 1/72 inch.
_PIXELS = 96
_POINT = _PIXELS / 72
_TALL = 1.15 * _POINT * style.SMALL
_AIR = 1.05
_SIZE = 6.6


def points(axes: Any, chart: Chart) -> Callable[[], None]:
    """Draw a chart into a panel, all but its labels.

    Returns:
        What writes the labels, once the panel has its final size.
    """
    style.frame(axes, chart.x, chart.y)
    for line in chart.lines:
        look = {"color": style.REFERENCE, "linewidth": 1.3}
        if line.kind == "front":
            look = {"color": style.LEAD, "linewidth": 1.0, "linestyle": style.DASHED}
        axes.plot(*zip(*line.corners, strict=True), zorder=2, gid=marked(line.kind), **look)
    for point in chart.points:
        if point.x_low is not None and point.x_high is not None:
            ends = [point.x_low, point.x_high]
            axes.plot(ends, [point.y] * 2, color=style.INK, linewidth=1.0, zorder=3)
        _dot(axes, point)
    return functools.partial(_label, axes, chart)


def _dot(axes: Any, point: Point) -> None:
    color = style.LEAD if point.leads else style.REFERENCE if point.kind == "cut" else style.DOT
    shape, fill, edge, wide = "o", color, style.PAGE, 0.8
    if point.kind == "bound":
        shape, fill, edge, wide = "D", style.PAGE, color, 1.3
    elif point.kind == "cut":
        shape, edge, wide = "x", color, 1.5
    gid = marked(f"point {point.kind}", f"{point.label}: {point.said}")
    look = {"color": fill, "markeredgecolor": edge, "markeredgewidth": wide, "markersize": _SIZE}
    axes.plot(point.x, point.y, shape, zorder=4, gid=gid, **look)


def _label(axes: Any, chart: Chart) -> None:
    """Write the labels so that none covers another."""
    extent = axes.get_window_extent()
    width, height = (_PIXELS * side / axes.figure.dpi for side in (extent.width, extent.height))

    def place(x: float, y: float) -> tuple[float, float]:
        """Return a place in pixels, x to the right and y down."""
        return chart.x.at(x) * width, (1 - chart.y.at(y)) * height

    def write(x: float, y: float, text: str, color: str, **look: Any) -> None:
        style.write(axes, x / width, 1 - y / height, text, color, transform=axes.transAxes, **look)

    dots = [place(point.x, point.y) for point in chart.points]
    paths = [[place(*corner) for corner in line.corners] for line in chart.lines]
    texts = [
        text
        for line, path in zip(chart.lines, paths, strict=True)
        if line.text
        and (text := place_along(path[-2], path[-1], line.text, _width(line.text), _TALL))
    ]
    intervals = [
        (*place(point.x_low, point.y), *place(point.x_high, point.y))
        for point in chart.points
        if point.x_low is not None and point.x_high is not None
    ]
    labels = place_labels(
        dots,
        [(_width(point.label, point.leads), _TALL) for point in chart.points],
        Box(0, 0, width, height),
        [box for text in texts for box in text.boxes],
        [*((*a, *b) for path in paths for a, b in itertools.pairwise(path)), *intervals],
    )
    for text in texts:
        look = {"ha": "right", "va": "baseline", "rotation_mode": "anchor"}
        write(text.x, text.y, text.text, style.SOFT, rotation=-text.turn, **look)
    for point, label, dot in zip(chart.points, labels, dots, strict=True):
        x, side = label.text(dot[0])
        y = (label.box.top + label.box.bottom) / 2
        color, weight = (style.LEAD, "bold") if point.leads else (style.INK, "normal")
        write(x, y, point.label, color, ha=side, zorder=5, weight=weight)
        if label.line is not None:
            xs = [x / width for x in label.line[::2]]
            ys = [1 - y / height for y in label.line[1::2]]
            axes.plot(xs, ys, color=style.SOFT, linewidth=0.5, zorder=1, transform=axes.transAxes)


def _width(text: str, bold: bool = False) -> float:
    """Return the width of a text in pixels, with some room for readers' other fonts."""
    return _AIR * _PIXELS * style.width(text, style.SMALL, bold)
