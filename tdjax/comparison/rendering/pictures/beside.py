"""What a workload works on, beside what a comparison says of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tdjax.comparison.charts.points import judged_groups
from tdjax.comparison.rendering.pictures import style
from tdjax.comparison.rendering.pictures.bars import EDGE, GAP, LINE, Page, bars_of, inch_of
from tdjax.comparison.rendering.pictures.plot import literally, save, where
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.answers import AUTO
from tdjax.comparison.verdicts.records import Record

_PHOTO, _TALL = 4.2, 4.92
_BESIDE = 4.7


@literally
def plot_beside(
    comparison: Record,
    workload: str,
    picture: Callable[[Any, bool], str],
    quick: bool,
    path: str | os.PathLike[str],
) -> Path:
    """Draw a workload's picture with the bars and the answers of its first target, into a file.

    Args:
        comparison: what is said of it.
        workload: its name.
        picture: draws it into axes, and returns what must be said of it.
        quick: whether its arrays were small.
        path: of the file; its suffix chooses the format.
    """
    groups = [each for each in judged_groups(comparison) if each[0].workload == workload]
    target = groups[0][0].target
    parts = [
        (
            naming.MODE_TITLES[group.mode],
            bars_of(entries, answer, comparison.reference),
            style.fill(style.words(f"{answer.said.get(AUTO, answer.text)}."), _BESIDE),
        )
        for group, entries, answer in groups
        if group.target == target
    ]
    known = [comparison.workloads.get(workload, ""), *where(comparison.environment)]
    about = style.fill(style.words(" · ".join(known)), _PHOTO + _BESIDE)
    top = EDGE + 0.35 + LINE * len(about) + GAP
    heights = [
        LINE * (1 + len(chart.bars) + len(chart.notes) + len(said)) + 0.1 + 2 * GAP
        for _, chart, said in parts
    ]
    width = EDGE + _PHOTO + 0.25 + _BESIDE + EDGE
    page = Page(width, top + max(sum(heights), _TALL + 3 * LINE + GAP))
    page.write(EDGE, EDGE + 0.12, workload, weight="bold", fontsize=style.LARGE + 1)
    page.lines(about, EDGE, EDGE + 0.3, color=style.SOFT)
    caption = picture(page.axes(EDGE, top, _PHOTO, _TALL), quick)
    lines = style.fill(style.words(caption), _PHOTO)
    page.lines(lines, EDGE, top + _TALL + 0.5 * GAP, color=style.SOFT)
    left = EDGE + _PHOTO + 0.25
    first = left + 0.12 + max(style.width(b.label) for _, chart, _ in parts for b in chart.bars)
    room = left + _BESIDE - first
    y = top
    for (title, chart, said), height in zip(parts, heights, strict=True):
        page.write(left, y + 0.1, f"{title}: {chart.heading}", weight="bold")
        page.labels([bar.label for bar in chart.bars], first, y + LINE + 0.1)
        page.bars(chart, first, y + LINE + 0.1, room, inch_of([chart], room))
        below = y + LINE * (1 + len(chart.bars) + len(chart.notes)) + 0.1 + 0.5 * GAP
        page.lines(said, left, below, color=style.SOFT)
        y += height
    return save(page.figure, path)
