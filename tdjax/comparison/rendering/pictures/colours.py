"""The colours of the pictures, those of the report on a light page."""

from __future__ import annotations

from typing import Any

LEAD, BAR, CUT, REFERENCE = "#0f8a7e", "#a9b8cf", "#e3cdc7", "#c2572b"
DOT, INK, SOFT, LINE = "#6f83a3", "#1b2330", "#5d6879", "#dde2ea"


def halo() -> list[Any]:
    """Return what keeps text readable where a line crosses it."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="white")]
