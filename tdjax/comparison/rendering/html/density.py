"""The part of the report on padding: time against the part of steps that is real, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from tdjax.comparison import numbers
from tdjax.comparison.charts.axis import TIMES, Axis, up_to
from tdjax.comparison.charts.density import IDEAL, DensityChart, Line, apart
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Group

_WIDTH, _HEIGHT = 440, 290
_LEFT, _TOP, _RIGHT, _BOTTOM = 40.0, 26.0, 300.0, 252.0
_NAMES = _RIGHT + 24
_TALL = 15.0
_CLOSE = 0.09  # of the width: names of parts that are nearer than this would touch


def density_section(series: str, charts: Mapping[Group, DensityChart]) -> str:
    """Return the charts of a series of workloads, one a target and mode, as a section."""
    figures = "".join(_figure(chart) for group, chart in charts.items() if group.workload == series)
    if not figures:
        return ""
    return (
        f"<section><h2>{escape(series)}: what padding costs "
        '<a class="top" href="#top">top</a></h2>'
        '<p class="soft">Time against the part of steps that a mask keeps. Details of each part '
        f'follow.</p><div class="card"><div class="charts wide">{figures}</div></div></section>'
    )


def _figure(chart: DensityChart) -> str:
    group = chart.group
    title = f"{naming.MODE_TITLES[group.mode]}, {group.evidence} on {group.target}"
    named = f"{group.workload}, {title}: time against the part of steps that is real"
    axis = up_to(chart.top_s, "time", TIMES)
    inside = chart.inside
    ends = [_y(axis, line.end_s) for line in inside]
    names = apart(ends, _TALL)
    parts = [
        *(_time_tick(axis, *tick) for tick in axis.ticks),
        *(_part_tick(part, name) for part, name in _spaced(chart)),
        f'<path class="axis" d="M{_LEFT} {_BOTTOM}H{_RIGHT}"/>',
        _ideal(axis, chart.ideal_s),
        *(_line(axis, *placed) for placed in zip(inside, ends, names, strict=True)),
        f'<text class="soft" x="{_RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">part of steps that '
        "is real</text>",
        f'<text class="soft" x="2" y="14">{escape(axis.title)}</text>',
    ]
    return (
        f"<figure><h4>{escape(title)}</h4>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(named)}">'
        f"{''.join(parts)}</svg><figcaption>{escape(_caption(chart))}</figcaption></figure>"
    )


def _caption(chart: DensityChart) -> str:
    sentences = []
    for line in chart.lines:
        if line.packs:
            each = [
                f"{numbers.speed(value)} at {name}"
                for value, name in zip(chart.speeds(line), chart.part_names, strict=True)
            ]
            name = naming.short(line.strategy)
            sentences.append(f"Speed of {name} against the fastest of the others: ")
            sentences[-1] += f"{', '.join(each)}{chart.left_out}."
    if chart.ideal_s is not None:
        sentences.append(
            "Dashed: what the fastest that computes all steps would take if masked ones cost "
            "nothing."
        )
    return " ".join(sentences)


def _x(part: float) -> float:
    return _LEFT + part * (_RIGHT - _LEFT)


def _y(axis: Axis, seconds: float) -> float:
    return _BOTTOM - axis.at(seconds) * (_BOTTOM - _TOP)


def _time_tick(axis: Axis, value: float, text: str) -> str:
    y = _y(axis, value)
    return (
        f'<path class="grid" d="M{_LEFT} {y:.1f}H{_RIGHT}"/>'
        f'<text class="soft" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _spaced(chart: DensityChart) -> Sequence[tuple[float, str]]:
    """Return the parts with their names, without names that would touch the next one."""
    parts = [0.0, *chart.parts]
    names = ["0", *chart.part_names]
    after = [*parts[1:], 2.0]
    return [
        (part, name if following - part > _CLOSE else "")
        for part, name, following in zip(parts, names, after, strict=True)
    ]


def _part_tick(part: float, name: str) -> str:
    x = f"{_x(part):.1f}"
    return (
        f'<path class="grid" d="M{x} {_TOP}V{_BOTTOM}"/>'
        f'<text class="soft" x="{x}" y="{_BOTTOM + 15}" text-anchor="middle">{name}</text>'
    )


def _ideal(axis: Axis, seconds: float | None) -> str:
    if seconds is None:
        return ""
    middle = f'x="{_x(0.52):.1f}" y="{_y(axis, 0.5 * seconds) + 14:.1f}"'
    return (
        f'<path class="free" d="M{_LEFT} {_BOTTOM}L{_RIGHT} {_y(axis, seconds):.1f}"/>'
        f'<text class="free label" {middle}>{IDEAL}</text>'
    )


def _line(axis: Axis, line: Line, end: float, name: float) -> str:
    ahead = " ahead" if line.packs else ""
    places = [(_x(part), _y(axis, entry.median_s or 0.0)) for part, entry in line.points]
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle class="point{ahead}" cx="{x:.1f}" cy="{y:.1f}" r="{4.5 if ahead else 3}">'
        f"<title>{escape(naming.short(line.strategy))}, {part:.3g} real: "
        f"{numbers.seconds(entry.median_s)}</title></circle>"
        for (x, y), (part, entry) in zip(places, line.points, strict=True)
    )
    tether = f"M{places[-1][0] + 6:.1f} {end:.1f}L{_NAMES - 4} {name:.1f}"
    return (
        f'<polyline class="course{ahead}" points="{corners}"/>'
        f'<path class="tether" d="{tether}"/>{dots}'
        f'<text class="label{ahead}" x="{_NAMES}" y="{name + 4:.1f}">'
        f"{escape(naming.short(line.strategy))}</text>"
    )
