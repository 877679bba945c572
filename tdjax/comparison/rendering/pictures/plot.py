"""A comparison as a picture, by matplotlib: one panel a workload, target and mode."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec

from tdjax.comparison.rendering.pictures import style
from tdjax.comparison.rendering.pictures.kinds import KINDS, ChartKind
from tdjax.comparison.rendering.pictures.svg import in_dark, to_svg
from tdjax.comparison.system.extras import need
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.answers import Answer
from tdjax.comparison.verdicts.entry import Group
from tdjax.comparison.verdicts.records import Record
from tdjax.core import whole_file

_WIDTH = 6.4
_Given = ParamSpec("_Given")


def plot(comparison: Record, path: str | os.PathLike[str], kind: str = "time") -> Path:
    """Draw the comparison into a file; see `Comparison.plot`."""
    if kind not in KINDS:
        raise ValueError(f"plot: got kind={kind!r}, needed one of {', '.join(KINDS)}.")
    need("matplotlib", "plots")
    if Path(path).suffix == ".svg":
        return whole_file.write(path, svg(comparison, kind))
    return save(_figure(comparison, KINDS[kind]), path)


def save(figure: Any, path: str | os.PathLike[str]) -> Path:
    """Write a figure of matplotlib into a file, whose suffix chooses the format."""
    picture = io.BytesIO()
    suffix = Path(path).suffix.lstrip(".") or "png"
    figure.savefig(picture, format=suffix, dpi=150, facecolor=style.PAGE)
    return whole_file.write(path, picture.getvalue())


def svg(comparison: Record, kind: str = "time") -> str:
    """Return the picture of all charts of a kind as an SVG element, dark where its page is."""
    return in_dark(to_svg(_figure(comparison, KINDS[kind]), kind, style.PAGE), style.IN_DARK)


def literally(make: Callable[_Given, Any]) -> Callable[_Given, Any]:
    """Decorate what makes a figure: "$" in it is a character, for a user's name is no formula."""

    @functools.wraps(make)
    def made(*args: _Given.args, **kwargs: _Given.kwargs) -> Any:
        from matplotlib import rc_context

        with rc_context({"text.parse_math": False}):
            return make(*args, **kwargs)

    return made


@literally
def draw(kind: ChartKind, chart: Any, width: float, height: float) -> Any:
    """Return a figure of one chart, its sides in inches."""
    assert kind.draw is not None
    figure = _empty(width, height, pad=0.02)
    _complete(figure, [kind.draw(figure.subplots(), chart)])
    return figure


@literally
def _figure(comparison: Record, kind: ChartKind) -> Any:
    """Return a figure of all charts of a kind.

    Raises:
        ValueError: there is none.
    """
    charts = kind.find(comparison)
    if not charts:
        raise ValueError(f"plot: nothing to draw for kind={kind.name!r}: {kind.needs}.")
    if kind.together is not None:
        return kind.together(charts, where(comparison.environment))
    assert kind.draw is not None
    answers = {answer.group: answer for answer in comparison.answers}
    rows = list(dict.fromkeys(group[:3] for group in charts))
    modes = [mode for mode in naming.MODE_TITLES if any(group.mode == mode for group in charts)]
    heights = [
        max(kind.height(chart) for group, chart in charts.items() if group[:3] == row)
        for row in rows
    ]
    figure = _empty(1.2 + _WIDTH * len(modes), 1.1 + sum(heights))
    shows = kind.shows.format(reference=comparison.reference)
    headline = "   ·   ".join([shows, *where(comparison.environment)])
    figure.suptitle(headline, x=0.01, ha="left", fontsize=10, color=style.SOFT, fontweight="normal")
    panels = figure.subplots(len(rows), len(modes), squeeze=False, height_ratios=heights)
    finishers = []
    for row, lane in zip(rows, panels, strict=True):
        for mode, axes in zip(modes, lane, strict=True):
            group = Group(*row, mode)
            if group in charts:
                finishers.append(kind.draw(axes, charts[group]))
                _title(axes, group, answers.get(group))
            else:
                axes.set_axis_off()
    _complete(figure, finishers)
    return figure


def _empty(width: float, height: float, pad: float = 0.11) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(hspace=0.06, wspace=0.05, w_pad=pad, h_pad=pad)
    return Figure(figsize=(width, height), layout=layout)


def _complete(figure: Any, finishers: list[Callable[[], None] | None]) -> None:
    """Fix the panels' places, which labels are not to move, and draw what had to wait for it."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(None)
    for finish in finishers:
        if finish is not None:
            finish()


def where(environment: Mapping[str, Any]) -> list[str]:
    """Return what a comparison ran on and with, in words."""
    known = [environment.get("devices"), environment.get("processor")]
    versions = [f"{environment.get('cores')} cores", f"jax {environment.get('jax')}"]
    return [str(part) for part in (*known, *versions) if part]


def _title(axes: Any, group: Group, answer: Answer | None) -> None:
    title = f"{group.workload}, {naming.MODE_TITLES[group.mode]}"
    if group.target != "cpu":
        title += f", {group.target}"
    above = 20 if axes.get_title(loc="left") else 6  # There the title of y stands.
    for text, x, look in (
        (title, 0, {"fontsize": 11, "fontweight": "bold", "color": style.INK}),
        (answer.kind if answer else "", 1, {"fontsize": 9.5, "color": style.SOFT, "ha": "right"}),
    ):
        at = {"xycoords": "axes fraction", "xytext": (0, above), "textcoords": "offset points"}
        axes.annotate(text, (x, 1), **at, **look)
