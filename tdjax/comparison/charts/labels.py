"""Where the labels of a chart's points go, so that none covers another label or a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

# Beside a point first, then above and below it, then at the corners, then anything.
_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 67, 293, 113, 247)
_GAPS = (7.0, 13.0, *(20.0 + 10.0 * step for step in range(24)))
_BESIDE = 13.0
_POINT = 5.0
_AIR = 1.5
_OFF = 5.0


class Box(NamedTuple):
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def covers(self, other: Box) -> bool:
        """Whether the two have an area in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, other: Box) -> bool:
        """Whether the other one lies in it."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom

    def crossed(self, line: Stretch) -> bool:
        """Whether a line from (x, y) to (x, y) enters it."""
        x, y, end_x, end_y = line
        enter, leave = 0.0, 1.0
        for start, way, low, high in (
            (x, end_x - x, self.left, self.right),
            (y, end_y - y, self.top, self.bottom),
        ):
            if way == 0:
                if not low < start < high:
                    return False
                continue
            first, last = sorted(((low - start) / way, (high - start) / way))
            enter, leave = max(enter, first), min(leave, last)
        return enter < leave

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """Return the place in it that is nearest to another place."""
        return min(max(x, self.left), self.right), min(max(y, self.top), self.bottom)


Stretch = tuple[float, float, float, float]


class Label(NamedTuple):
    """A label's box, and the line from its point to it where it is not beside the point."""

    box: Box
    line: Stretch | None

    def text(self, x: float) -> tuple[float, str]:
        """Return the x at which the text is aligned for a point at x, and its alignment.

        The text is aligned at the side of the box that is nearer to the point ("left" or
        "right"), or at the middle ("center") where it is above or below the point.
        """
        if self.box.left > x:
            return self.box.left, "left"
        if self.box.right < x:
            return self.box.right, "right"
        return (self.box.left + self.box.right) / 2, "center"


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    within: Box,
    taken: Sequence[Box] = (),
    drawn: Sequence[Stretch] = (),
) -> list[Label]:
    """Return each point's label, at the nearest place that is free.

    Args:
        points: where the points are, x to the right and y down.
        sizes: the labels' widths and heights, one a point.
        within: where labels may be.
        taken: where other text is.
        drawn: straight lines that labels avoid where they can.
    """
    dots = [Box(x - _POINT, y - _POINT, x + _POINT, y + _POINT) for x, y in points]
    found: dict[int, Label] = {}
    # The point with the most neighbors has the fewest places to choose from, so it goes first.
    for index in sorted(range(len(points)), key=lambda i: -_neighbors(points, i)):
        others = [dot for place, dot in enumerate(dots) if points[place] != points[index]]
        own = [dots[index], *others, *taken, *(label.box for label in found.values())]
        lines = [*drawn, *(label.line for label in found.values() if label.line is not None)]
        found[index] = _place_label(points[index], sizes[index], within, own, others, lines)
    return [found[index] for index in range(len(points))]


def _neighbors(points: Sequence[tuple[float, float]], index: int) -> float:
    x, y = points[index]
    return sum(1 / (10 + math.dist((x, y), other)) for other in points)


def _place_label(
    point: tuple[float, float],
    size: tuple[float, float],
    within: Box,
    taken: Sequence[Box],
    dots: Sequence[Box],
    lines: Sequence[Stretch],
) -> Label:
    spare: Label | None = None
    fallback: Label | None = None
    for gap in _GAPS:
        for angle in _ANGLES:
            box = _box(point, size, gap, math.radians(angle))
            if not within.holds(box):
                continue
            line = (*point, *box.nearest(*point)) if gap > _BESIDE else None
            label = Label(box, line)
            fallback = fallback or label
            wide = Box(box.left - _AIR, box.top - _AIR, box.right + _AIR, box.bottom + _AIR)
            if any(wide.covers(other) for other in taken):
                continue
            spare = spare or label
            if any(wide.crossed(other) for other in lines):
                continue
            # The point's own dot is where its line begins.
            if line is not None and any(other.crossed(line) for other in (*taken[1:], *dots)):
                continue
            return label
    corner = Box(within.left, within.top, within.left + size[0], within.top + size[1])
    return spare or fallback or Label(corner, None)


def _box(point: tuple[float, float], size: tuple[float, float], gap: float, angle: float) -> Box:
    """Return the label's box at this distance from the point, in this direction."""
    width, height = size
    right, up = math.cos(angle), math.sin(angle)
    # Beside a point the label is level with it; above and below, it is centered.
    x = point[0] + right * (gap + width / 2)
    y = point[1] - up * (gap + height / 2)
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


class Along(NamedTuple):
    """Text above the end of a line: where it ends, its turn in degrees, and what it covers."""

    text: str
    x: float
    y: float
    turn: float
    boxes: tuple[Box, ...]


def place_along(
    start: tuple[float, float], end: tuple[float, float], text: str, width: float, height: float
) -> Along | None:
    """Return the place of a text that ends where a line ends, None if the line is too short."""
    length = math.dist(start, end)
    if length < width + 2 * _OFF:
        return None
    right, down = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    x = end[0] - _OFF * right + _OFF * down
    y = end[1] - _OFF * down - _OFF * right
    # A turned text is covered by a chain of small boxes.
    half = height / 2
    pieces = max(1, math.ceil(width / half))
    middles = [
        (x - right * at + down * half, y - down * at - right * half)
        for at in (width * (piece + 0.5) / pieces for piece in range(pieces))
    ]
    boxes = tuple(Box(a - half, b - half, a + half, b + half) for a, b in middles)
    return Along(text, x, y, math.degrees(math.atan2(down, right)), boxes)
