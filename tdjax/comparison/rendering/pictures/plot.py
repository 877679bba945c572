"""A comparison as a picture, by matplotlib: one panel a workload, target and mode."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from tdjax.comparison.charts import memory_time, roofline
from tdjax.comparison.charts.density import density_charts
from tdjax.comparison.charts.points import Chart
from tdjax.comparison.rendering.pictures.bars import bars, subtitle
from tdjax.comparison.rendering.pictures.colours import INK, SOFT
from tdjax.comparison.rendering.pictures.density import density_lines
from tdjax.comparison.rendering.pictures.points import label, points
from tdjax.comparison.system.extras import need
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry, Group, grouped
from tdjax.comparison.verdicts.records import Record
from tdjax.comparison.verdicts.verdict import Verdict
from tdjax.core import whole_file

KINDS = ("time", "memory", "roofline", "density")
_SCATTER_INCHES = 3.0


def plot(comparison: Record, path: str | os.PathLike[str], kind: str = "time") -> Path:
    """Draw the comparison into a file; see `Record.plot`."""
    if kind not in KINDS:
        raise ValueError(f"plot: got kind={kind!r}, needed one of {', '.join(KINDS)}.")
    need("matplotlib", "plots")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    groups = grouped(comparison.entries)
    verdicts = {verdict.group: verdict for verdict in comparison.verdicts}
    charts = {} if kind in ("time", "density") else _charts(comparison, kind)
    lines = density_charts(comparison) if kind == "density" else {}
    if kind == "density":
        if not lines:
            raise ValueError(
                "plot: nothing to draw for kind='density': no workload was measured at several "
                "parts of real steps (compare(..., valid_fractions=...))."
            )
        groups = {group: [] for group in lines}
    rows = list(dict.fromkeys((g.workload, g.target, g.evidence) for g in groups))
    modes = [mode for mode in naming.MODE_TITLES if any(g.mode == mode for g in groups)]
    heights = [_height(groups, row) if kind == "time" else _SCATTER_INCHES for row in rows]
    figure = Figure(
        figsize=(1.2 + 6.4 * max(len(modes), 1), 1.1 + sum(heights)),
        layout=ConstrainedLayoutEngine(hspace=0.06, wspace=0.05, w_pad=0.12, h_pad=0.1),
    )
    figure.suptitle(
        _headline(comparison, kind),
        x=0.01,
        ha="left",
        fontsize=10,
        color=SOFT,
        fontweight="normal",
    )
    panels = figure.subplots(
        max(len(rows), 1), max(len(modes), 1), squeeze=False, height_ratios=heights or None
    )
    unlabelled: list[tuple[Any, Chart]] = []
    for row, lane in zip(rows, panels, strict=False):
        for mode, axes in zip(modes, lane, strict=False):
            group = Group(*row, mode)
            if group not in groups:
                axes.set_axis_off()
                continue
            verdict = verdicts.get(group)
            if kind == "time":
                bars(axes, groups[group], verdict, comparison.reference)
                _title(axes, group, subtitle(groups[group]), verdict)
            elif kind == "density":
                density_lines(axes, lines[group])
                _title(axes, group, "", None)
            elif (chart := charts.get(group)) is not None:
                points(axes, chart)
                _title(axes, group, "", verdict)
                unlabelled.append((axes, chart))
            else:
                axes.set_axis_off()
                _title(axes, group, "nothing to draw", verdict)
    if unlabelled:
        figure.draw_without_rendering()
        figure.set_layout_engine(
            "none"
        )  # The panels have their places: labels are not to move them.
        for axes, chart in unlabelled:
            label(axes, chart)
    picture = io.BytesIO()
    suffix = Path(path).suffix.lstrip(".") or "png"
    figure.savefig(picture, format=suffix, dpi=150, facecolor="white")
    return whole_file.write(path, picture.getvalue())


def kinds(comparison: Record) -> tuple[str, ...]:
    """Return the kinds of picture that there is something to draw of, "time" first."""
    found = ["time"]
    for kind in ("memory", "roofline"):
        if _known_charts(comparison, kind):
            found.append(kind)
    if density_charts(comparison):
        found.append("density")
    return tuple(found)


def _charts(comparison: Record, kind: str) -> dict[Group, Chart]:
    """Return the charts of the groups that have one.

    Raises:
        ValueError: none has.
    """
    found = _known_charts(comparison, kind)
    if not found:
        lacking = {
            "memory": "no group has two programs whose memory is known",
            "roofline": "no group has programs with flops, on a target whose ceilings are known",
        }
        raise ValueError(f"plot: nothing to draw for kind={kind!r}: {lacking[kind]}.")
    return found


def _known_charts(comparison: Record, kind: str) -> dict[Group, Chart]:
    verdicts = {verdict.group: verdict for verdict in comparison.verdicts}
    found = {}
    for group, entries in grouped(comparison.entries).items():
        verdict = verdicts.get(group)
        if kind == "memory":
            chart = memory_time.chart(entries, verdict)
        else:
            chart = roofline.chart(entries, verdict, comparison.ceilings.get(group.target))
        if chart is not None:
            found[group] = chart
    return found


def _height(groups: dict[Group, list[Entry]], row: tuple[str, str, str]) -> float:
    longest = max(len(entries) for group, entries in groups.items() if group[:3] == row)
    return 0.85 + 0.27 * longest


def _headline(comparison: Record, kind: str) -> str:
    known = comparison.environment
    what = {
        "time": f"relative to {comparison.reference}, shorter is better",
        "memory": "memory against time, lower left is better",
        "density": "time against the part of steps that is real, lower is better",
        "roofline": "rooflines; nothing ran on compiled targets: their points are bounds",
    }
    parts = (
        what[kind],
        known.get("devices"),
        known.get("processor"),
        f"{known.get('cores')} cores",
        f"jax {known.get('jax')}",
    )
    return "   ·   ".join(str(part) for part in parts if part)


def _title(axes: Any, group: Group, said: str, verdict: Verdict | None) -> None:
    title = f"{group.workload}, {naming.MODE_TITLES[group.mode]}"
    if group.target != "cpu":
        title += f", {group.target}"
    if said:
        title += f": {said}"
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    if verdict is not None:
        axes.set_title(verdict.kind, loc="right", fontsize=9.5, color=SOFT)
