"""A comparison as one HTML file: no scripts, no fonts, nothing fetched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tdjax.comparison import numbers
from tdjax.comparison.charts.points import judged_groups
from tdjax.comparison.charts.roofline import roofs
from tdjax.comparison.rendering.pictures.kinds import KINDS, ChartKind
from tdjax.comparison.rendering.pictures.plot import draw, where
from tdjax.comparison.rendering.pictures.svg import to_svg
from tdjax.comparison.system.extras import need
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.answers import QUESTIONS
from tdjax.comparison.verdicts.entry import Entry, Group
from tdjax.comparison.verdicts.intervals import Interval
from tdjax.comparison.verdicts.metric import (
    BYTES,
    CYCLES,
    TIME,
    advantage,
    figure,
    heading,
    metric_of,
    shown,
)
from tdjax.comparison.verdicts.records import Record
from tdjax.comparison.verdicts.standing import MARGIN
from tdjax.comparison.verdicts.why import of_answer

_FOLDER = Path(__file__).parent
_INCHES = 4.15, 2.8


def html(comparison: Record) -> str:
    """Return the report as the text of an HTML file.

    Raises:
        ImportError: Jinja2 or matplotlib is missing; the message says how to install it.
    """
    need("jinja2", "reports")
    need("matplotlib", "the charts of reports")
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    groups = list(judged_groups(comparison))
    anchors = {group: f"group-{place}" for place, (group, *_) in enumerate(groups, 1)}
    workloads = list(dict.fromkeys(group.workload for group in anchors))
    styles: dict[str, str] = {}
    figures = list(_figures(comparison, styles))
    series = dict.fromkeys(each.group.workload for each in figures if each.group not in anchors)
    date = comparison.environment.get("date")
    templates = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    page = templates.get_template("report.html").render(
        comparison=comparison,
        reference=comparison.reference,
        title=f"tdjax: {workloads[0] if len(workloads) == 1 else 'strategies compared'}",
        subtitle=" · ".join([*where(comparison.environment), *([str(date)[:10]] if date else [])]),
        groups=groups,
        anchors=anchors,
        answers={group: answer for group, _, answer in groups},
        workloads=workloads,
        targets=_targets(anchors),
        figures=figures,
        styles=_in_variables(styles),
        above=_above(comparison, workloads, series),
        known=_known(comparison),
        # What the template looks up and calls.
        bars_of=_Bars,
        bounds=_bounds,
        figure=figure,
        better=heading,
        naming=naming,
        numbers=numbers,
        questions=QUESTIONS,
        reasons_of=of_answer,
        shown=shown,
        margin=f"{MARGIN - 1:.0%}",
        titles={TIME: "", CYCLES: ", the compiler's estimate of cycles", BYTES: ", bytes accessed"},
        units={TIME: "median", CYCLES: "cycles", BYTES: "bytes"},
    )
    return page.lstrip()


class _Figure(NamedTuple):
    group: Group
    kind: ChartKind
    chart: Any
    shows: str
    svg: Any


def _figures(comparison: Record, styles: dict[str, str]) -> Iterable[_Figure]:
    """Yield the charts as markup, with classes in place of styles, which many elements share.

    Args:
        comparison: what they show.
        styles: gets the name of each style's class.
    """
    from markupsafe import Markup, escape

    def classed(found: re.Match[str]) -> str:
        return f'class="{styles.setdefault(found[1], f"s{len(styles)}")}"'

    for kind in KINDS.values():
        for group, chart in kind.find(comparison).items() if kind.in_report else ():
            svg = to_svg(draw(kind, chart, *_INCHES), f"{kind.name} {group}")
            shows = kind.shows.format(reference=comparison.reference)
            said = escape(f"{group.workload}, {chart.title}: {shows}")
            svg = re.sub('style="([^"]*)"(?=[^<>]*>)', classed, svg)
            svg = svg.replace("<svg ", f'<svg role="img" aria-label="{said}" ', 1)
            yield _Figure(group, kind, chart, shows, Markup(svg))


def _in_variables(styles: Mapping[str, str]) -> dict[str, str]:
    """Return each class's style with colors as the stylesheet's variables, for its dark mode."""
    colors = re.findall("(--[a-z]+): (#[0-9a-f]{6})", (_FOLDER / "report.css").read_text())
    variables = {color: f"var({name})" for name, color in reversed(colors)}
    return {
        name: re.sub("#[0-9a-f]{6}", lambda found: variables.get(found[0], found[0]), style)
        for style, name in styles.items()
    }


def _targets(groups: Iterable[Group]) -> dict[tuple[str, str], list[str]]:
    """Return the modes of each target and its evidence."""
    known = dict.fromkeys(group[1:] for group in groups)
    return {
        target: [mode for mode in naming.MODE_TITLES if (*target, mode) in known]
        for target in dict.fromkeys((target, evidence) for target, evidence, _ in known)
    }


def _above(
    comparison: Record, workloads: Sequence[str], series: Iterable[str]
) -> dict[str, list[str]]:
    """Return the series whose charts stand above a workload: it is the first of theirs."""
    found: dict[str, list[str]] = {name: [] for name in workloads}
    of = {name: density.series for name, density in comparison.densities.items()}
    for each in series:
        found[next((n for n in workloads if of.get(n) == each), workloads[0])].append(each)
    return found


class _Bars:
    """The bars and figures of a group: longer is better."""

    def __init__(self, entries: Sequence[Entry], reference: str) -> None:
        self.metric = metric_of(entries)
        self.measured = self.metric == TIME
        self._peak = any(entry.peak_bytes is not None for entry in entries)
        ran = [entry for entry in entries if figure(entry, self.metric)]
        against = next((e for e in ran if e.strategy == reference), next(iter(ran), None))
        self._against = against
        self.base = reference if against is None else naming.short(against.strategy)
        self.lengths = {e.strategy: advantage(e, against, self.metric) for e in entries}
        ends = (each.high or each.value for each in self.lengths.values() if each)
        self._end = 1.04 * max([1.0, *ends])
        self.rule = self.at(1.0)

    def at(self, value: float) -> float:
        """Return the place of a value, in percent."""
        return round(min(100.0, 100 * value / self._end), 2)

    def samples(self, entry: Entry) -> str:
        """Return a thin line a round, as one path: there may be thousands in a report."""
        if self._against is None or not entry.measured:
            return ""
        pairs = zip(self._against.samples_s, entry.samples_s, strict=False)
        places = sorted({round(10 * self.at(base / own)) for base, own in pairs})
        return "".join(f"M{place} 0v1" for place in places if len(places) > 1)

    def ratio(self, entry: Entry) -> str:
        """Return how many times as good it is as the reference."""
        length = self.lengths[entry.strategy]
        return "" if length is None else numbers.speed(length.value)

    def facts(self, entry: Entry) -> dict[str, str]:
        """Return further figures by their names."""
        compiled = {"compile": numbers.seconds(entry.compile_s)}
        temporary = {"temporary": numbers.memory(entry.temp_bytes)}
        if not self.measured:
            return {"bytes": numbers.memory(entry.bytes_accessed), **temporary, **compiled}
        peak = {"peak": numbers.memory(entry.peak_bytes)} if self._peak else {}
        return {**compiled, **temporary, **peak, "error": naming.agreement(entry)}


def _bounds(ratio: Interval | None) -> str:
    """Return the interval of a ratio in words, empty where it is not known, or 1."""
    if ratio is None or ratio.low is None or ratio.high is None or ratio.low == ratio.high:
        return ""
    return f"{numbers.digits(ratio.low)} to {numbers.digits(ratio.high)}"


def _known(comparison: Record) -> dict[str, Any]:
    """Return what is known of where it ran, by names to read."""
    environment = {name.replace("_", " "): value for name, value in comparison.environment.items()}
    ceilings = {
        f"roofs of {name}": f"{roofs(each)}; {each.source}"
        for name, each in comparison.ceilings.items()
    }
    return {**environment, **ceilings}
