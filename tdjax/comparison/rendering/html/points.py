"""A chart of points as inline SVG: no scripts, and colours of the report's stylesheet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from html import escape

from tdjax.comparison.charts.axis import Axis
from tdjax.comparison.charts.labels import Along, Box, Place, Stretch, along, places
from tdjax.comparison.charts.points import BOUND, CUT, Chart, Point

_WIDTH, _HEIGHT = 400, 270
_PLOT = Box(46, 26, 392, 232)
_TALL = 13.0
# Generous widths of letters, so that labels stay apart in whatever font the reader has.
_WIDE, _NARROW, _LETTER, _BOLD = 11.2, 4.4, 7.2, 1.09
_RADIUS = 4.5
_ANCHORS = {"left": "start", "right": "end", "center": "middle"}


def svg(chart: Chart) -> str:
    """Return the chart as a figure of HTML, with its caption."""
    dots = [(_x(chart.x, point.x), _y(chart.y, point.y)) for point in chart.points]
    intervals = [_interval(chart, point) for point in chart.points]
    paths = [[(_x(chart.x, x), _y(chart.y, y)) for x, y in line.places] for line in chart.lines]
    stretches = [(*a, *b) for path in paths for a, b in itertools.pairwise(path)]
    texts = [
        along(path[-2], path[-1], line.text, _width(line.text), _TALL)
        for line, path in zip(chart.lines, paths, strict=True)
    ]
    labels = places(
        dots,
        [(_width(point.label, point.leads), _TALL) for point in chart.points],
        _PLOT,
        [box for text in texts if text is not None for box in text.boxes],
        [*stretches, *(interval for interval in intervals if interval is not None)],
    )
    parts = [
        *(_x_tick(chart.x, *tick) for tick in chart.x.ticks),
        *(_y_tick(chart.y, *tick) for tick in chart.y.ticks),
        f'<path class="axis" d="M{_PLOT.left} {_PLOT.bottom}H{_PLOT.right}"/>',
        *(_line(line.kind, path) for line, path in zip(chart.lines, paths, strict=True)),
        *(_along(text) for text in texts if text is not None),
        *(_tether(place) for place in labels if place.line is not None),
        *('<path class="interval" d="M{} {}L{} {}"/>'.format(*_round(i)) for i in intervals if i),
        *(_dot(point, *dot) for point, dot in zip(chart.points, dots, strict=True)),
        *(
            _label(point, place, dot[0])
            for point, place, dot in zip(chart.points, labels, dots, strict=True)
        ),
        f'<text class="soft" x="{_PLOT.right}" y="{_HEIGHT - 6}" text-anchor="end">'
        f"{escape(chart.x.title)}</text>",
        f'<text class="soft" x="2" y="14">{escape(chart.y.title)}</text>',
    ]
    return (
        f"<figure><h4>{escape(chart.title)}</h4>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(chart.title)}">'
        f"{''.join(parts)}</svg><figcaption>{escape(chart.caption)}</figcaption></figure>"
    )


def _width(text: str, bold: bool = False) -> float:
    widths = (
        _WIDE if letter in "mwMW" else _NARROW if letter in "iljtfr.,:()[] " else _LETTER
        for letter in text
    )
    return sum(widths) * (_BOLD if bold else 1.0)


def _round(values: Sequence[float]) -> list[float]:
    return [round(value, 1) for value in values]


def _x(axis: Axis, value: float) -> float:
    return _PLOT.left + axis.at(value) * (_PLOT.right - _PLOT.left)


def _y(axis: Axis, value: float) -> float:
    return _PLOT.bottom - axis.at(value) * (_PLOT.bottom - _PLOT.top)


def _x_tick(axis: Axis, value: float, text: str) -> str:
    x = f"{_x(axis, value):.1f}"
    return (
        f'<path class="grid" d="M{x} {_PLOT.top}V{_PLOT.bottom}"/>'
        f'<text class="soft" x="{x}" y="{_PLOT.bottom + 15}" text-anchor="middle">{text}</text>'
    )


def _y_tick(axis: Axis, value: float, text: str) -> str:
    y = _y(axis, value)
    return (
        f'<path class="grid" d="M{_PLOT.left} {y:.1f}H{_PLOT.right}"/>'
        f'<text class="soft" x="{_PLOT.left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _line(kind: str, path: Sequence[tuple[float, float]]) -> str:
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in path)
    return f'<polyline class="{kind}" points="{corners}"/>'


def _along(text: Along) -> str:
    x, y, turn = _round((text.x, text.y, text.turn))
    turned = f' transform="rotate({turn} {x} {y})"' if turn else ""
    return (
        f'<text class="soft" x="{x}" y="{y}" text-anchor="end"{turned}>{escape(text.text)}</text>'
    )


def _interval(chart: Chart, point: Point) -> Stretch | None:
    """Return where the interval of x is drawn, None where the point hides it."""
    if point.x_low is None or point.x_high is None:
        return None
    ends = [min(max(_x(chart.x, x), _PLOT.left), _PLOT.right) for x in (point.x_low, point.x_high)]
    y = _y(chart.y, point.y)
    return (ends[0], y, ends[1], y) if ends[1] - ends[0] > 2 * _RADIUS else None


def _dot(point: Point, x: float, y: float) -> str:
    classes = f"point {point.kind}{' ahead' if point.leads else ''}"
    title = f"<title>{escape(point.label)}: {escape(point.said)}</title>"
    if point.kind == BOUND:
        side = 1.25 * _RADIUS
        corners = f"M{x:.1f} {y - side:.1f}l{side} {side} {-side} {side} {-side} {-side}z"
        return f'<path class="{classes}" d="{corners}">{title}</path>'
    if point.kind == CUT:
        arm = 0.8 * _RADIUS
        cross = (
            f"M{x - arm:.1f} {y - arm:.1f}l{2 * arm} {2 * arm}m0 {-2 * arm}l{-2 * arm} {2 * arm}"
        )
        return f'<path class="{classes}" d="{cross}">{title}</path>'
    return f'<circle class="{classes}" cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}">{title}</circle>'


def _tether(place: Place) -> str:
    assert place.line is not None
    x, y, end_x, end_y = place.line
    share = 1.3 * _RADIUS / max(math.dist((x, y), (end_x, end_y)), 1.0)
    x, y = x + share * (end_x - x), y + share * (end_y - y)
    return f'<path class="tether" d="M{x:.1f} {y:.1f}L{end_x:.1f} {end_y:.1f}"/>'


def _label(point: Point, place: Place, x: float) -> str:
    at, side = place.text(x)
    classes = "label ahead" if point.leads else "label"
    return (
        f'<text class="{classes}" x="{at:.1f}" y="{place.box.bottom - 3:.1f}" '
        f'text-anchor="{_ANCHORS[side]}">{escape(point.label)}</text>'
    )
