"""A chart of points, by matplotlib."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from tdjax.comparison.charts.axis import Axis
from tdjax.comparison.charts.labels import Box, along, places
from tdjax.comparison.charts.points import BOUND, CUT, Chart, Point
from tdjax.comparison.rendering.pictures.colours import DOT, INK, LEAD, LINE, REFERENCE, SOFT

_SIZE = 8.0
_LETTER, _TALL = 0.62 * _SIZE, 1.3 * _SIZE
_RADIUS = 3.2
_MARKERS = {BOUND: "D", CUT: "x"}
_INCH = 72.0


def points(axes: Any, chart: Chart) -> None:
    """Draw a chart into a panel, all but its labels: they need the panel's final size."""
    for axis, scale in ((axes.xaxis, chart.x), (axes.yaxis, chart.y)):
        axis.set_tick_params(which="both", length=0, labelsize=8.5, colors=SOFT)
        axis.set_label_text(scale.title, fontsize=8.5, color=SOFT)
    axes.set_xscale("log" if chart.x.log else "linear")
    axes.set_yscale("log" if chart.y.log else "linear")
    axes.set_xticks(*_ticks(chart.x))
    axes.set_yticks(*_ticks(chart.y))
    axes.minorticks_off()
    axes.set_xlim(chart.x.low, chart.x.high)
    axes.set_ylim(chart.y.low, chart.y.high)
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    for line in chart.lines:
        xs, ys = zip(*line.places, strict=True)
        roof = line.kind == "roof"
        style = {"color": REFERENCE} if roof else {"color": LEAD, "linestyle": (0, (4, 3))}
        axes.plot(xs, ys, linewidth=1.3 if roof else 1.0, zorder=2, **style)
    for point in chart.points:
        if point.x_low is not None and point.x_high is not None:
            ends = [point.x_low, point.x_high]
            axes.plot(ends, [point.y] * 2, color=INK, linewidth=1.0, zorder=3)
        colour = LEAD if point.leads else REFERENCE if point.kind == CUT else DOT
        axes.plot(
            point.x,
            point.y,
            _MARKERS.get(point.kind, "o"),
            color=colour,
            markersize=2 * _RADIUS,
            markerfacecolor="white" if point.kind == BOUND else colour,
            zorder=4,
        )


def label(axes: Any, chart: Chart) -> None:
    """Write the labels into a panel that has its final size, so that none covers another."""
    extent = axes.get_window_extent()
    dots_per_inch = axes.figure.dpi
    width, height = (_INCH * side / dots_per_inch for side in (extent.width, extent.height))

    def place(x: float, y: float) -> tuple[float, float]:
        """Return a place in points, x to the right and y down."""
        return chart.x.at(x) * width, (1 - chart.y.at(y)) * height

    def write(x: float, y: float, text: str, **style: Any) -> None:
        offset = {"xycoords": "axes fraction", "fontsize": _SIZE, "annotation_clip": False}
        axes.annotate(text, (x / width, 1 - y / height), **{**offset, **style})

    dots = [place(point.x, point.y) for point in chart.points]
    paths = [[place(*corner) for corner in line.places] for line in chart.lines]
    texts = [
        along(path[-2], path[-1], line.text, _LETTER * len(line.text), _TALL)
        for line, path in zip(chart.lines, paths, strict=True)
    ]
    intervals = [
        (*place(point.x_low, point.y), *place(point.x_high, point.y))
        for point in chart.points
        if point.x_low is not None and point.x_high is not None
    ]
    found = places(
        dots,
        [(_width(point), _TALL) for point in chart.points],
        Box(0, 0, width, height),
        [box for text in texts if text is not None for box in text.boxes],
        [*((*a, *b) for path in paths for a, b in itertools.pairwise(path)), *intervals],
    )
    for text in texts:
        if text is not None:
            style: dict[str, Any] = {"rotation": -text.turn, "rotation_mode": "anchor"}
            write(text.x, text.y, text.text, ha="right", color=SOFT, **style)
    for point, spot, dot in zip(chart.points, found, dots, strict=True):
        weight: dict[str, Any] = {"color": LEAD if point.leads else INK}
        if point.leads:
            weight["fontweight"] = "bold"
        at, side = spot.text(dot[0])
        middle = (spot.box.top + spot.box.bottom) / 2
        write(at, middle, point.label, ha=side, va="center", zorder=5, **weight)
        if spot.line is not None:
            xs, ys = spot.line[::2], [1 - y / height for y in spot.line[1::2]]
            ends = [x / width for x in xs]
            axes.plot(ends, ys, color=SOFT, linewidth=0.5, zorder=1, transform=axes.transAxes)


def _ticks(axis: Axis) -> tuple[Sequence[float], Sequence[str]]:
    return [value for value, _ in axis.ticks], [text for _, text in axis.ticks]


def _width(point: Point) -> float:
    return _LETTER * len(point.label) * (1.1 if point.leads else 1.0)
