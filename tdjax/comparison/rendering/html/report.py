"""A comparison as one HTML file: no scripts, no fonts, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from tdjax.comparison import numbers
from tdjax.comparison.charts import memory_time, roofline
from tdjax.comparison.charts.density import density_charts
from tdjax.comparison.rendering.html.compiled import compiled_rows
from tdjax.comparison.rendering.html.density import density_section
from tdjax.comparison.rendering.html.measured import measured_rows
from tdjax.comparison.rendering.html.method import METHOD
from tdjax.comparison.rendering.html.points import svg
from tdjax.comparison.rendering.html.style import STYLE
from tdjax.comparison.rendering.html.verdicts import badge, matrix
from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry, Group, grouped
from tdjax.comparison.verdicts.records import Record
from tdjax.comparison.verdicts.verdict import Verdict
from tdjax.comparison.verdicts.why import MOST, of_verdict

_DEVICE = "on the device"


def html(comparison: Record) -> str:
    """Return the report as the text of an HTML file."""
    verdicts = {verdict.group: verdict for verdict in comparison.verdicts}
    groups = grouped(comparison.entries)
    anchors = {group: f"group-{place}" for place, group in enumerate(groups, 1)}
    workloads: dict[str, list[str]] = {}
    for group, entries in groups.items():
        card = _card(comparison, group, entries, verdicts.get(group), anchors[group])
        workloads.setdefault(group.workload, []).append(card)
    padding = density_charts(comparison)
    leading = _leading(comparison, workloads)
    sections = "".join(
        f"{density_section(leading[name], padding) if name in leading else ''}"
        f'<section><h2>{escape(name)} <a class="top" href="#top">top</a></h2>'
        f'<p class="soft">{escape(comparison.workloads.get(name, ""))}</p>{"".join(cards)}'
        "</section>"
        for name, cards in workloads.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(_title(workloads))}</title><style>{STYLE}</style></head>"
        f'<body id="top"><main><h1>{escape(_title(workloads))}</h1>{_subtitle(comparison)}'
        f"{matrix(comparison, anchors)}{sections}{_method(comparison)}</main></body></html>\n"
    )


def _leading(comparison: Record, workloads: Iterable[str]) -> dict[str, str]:
    """Return the series whose charts stand above a workload, by that: the first of the series."""
    first: dict[str, str] = {}
    for name in workloads:
        if name in comparison.densities:
            first.setdefault(comparison.densities[name].series, name)
    return {name: series for series, name in first.items()}


def _title(workloads: Iterable[str]) -> str:
    names = list(workloads)
    return f"tdjax: {names[0]}" if len(names) == 1 else "tdjax: strategies compared"


def _subtitle(comparison: Record) -> str:
    known = comparison.environment
    parts = [known.get("devices"), known.get("processor"), f"{known.get('cores')} cores"]
    parts += [f"jax {known.get('jax')}", known.get("date")]
    line = " · ".join(str(part) for part in parts if part)
    note = "<p><b>Interrupted: what was measured until then.</b></p>"
    return f'<p class="soft">{escape(line)}</p>{note if comparison.interrupted else ""}'


def _card(
    comparison: Record,
    group: Group,
    entries: Sequence[Entry],
    verdict: Verdict | None,
    anchor: str,
) -> str:
    reference = comparison.reference
    said = ""
    if verdict is not None:
        advice = f" {escape(verdict.advice)}." if verdict.advice else ""
        said = (
            f"<p>{badge(verdict)} {escape(naming.short(verdict.text))}."
            f'<span class="soft">{advice[:2].upper()}{advice[2:]}</span></p>'
            + _reasons(of_verdict(entries, verdict, reference, MOST))
        )
    rows = compiled_rows if group.evidence == "compiled" else measured_rows
    return (
        f'<div class="card" id="{anchor}"><div class="head">'
        f"<h3>{naming.MODE_TITLES[group.mode]}</h3>"
        f'<span class="soft">{escape(group.evidence)} on {escape(group.target)}</span></div>'
        f"{said}{rows(entries, verdict, reference)}"
        f"{_charts(entries, verdict, comparison.ceilings.get(group.target))}"
        f"{_figures(entries)}</div>"
    )


def _reasons(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="reasons">{items}</ul>' if items else ""


def _charts(entries: Sequence[Entry], verdict: Verdict | None, ceilings: Ceilings | None) -> str:
    charts = (memory_time.chart(entries, verdict), roofline.chart(entries, verdict, ceilings))
    drawn = "".join(svg(chart) for chart in charts if chart is not None)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _figures(entries: Sequence[Entry]) -> str:
    """The compiler's figures, folded away."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.hlo or {}))
    titles = [
        "samples",
        "trace",
        "lower",
        "first run",
        *([_DEVICE] if any(entry.device_s is not None for entry in entries) else []),
        "flops",
        "bytes accessed",
        "bytes between devices",
        *names,
    ]
    head = "".join(f"<th>{escape(title)}</th>" for title in ("strategy", *titles, "program"))
    rows = []
    for entry in entries:
        values = [
            str(len(entry.samples_s)),
            numbers.seconds(entry.trace_s),
            numbers.seconds(entry.lower_s),
            numbers.seconds(entry.first_run_s),
            *([numbers.seconds(entry.device_s)] if _DEVICE in titles else []),
            numbers.UNKNOWN if entry.flops is None else f"{entry.flops:.3g}",
            numbers.memory(None if entry.bytes_accessed is None else int(entry.bytes_accessed)),
            numbers.memory(entry.comm_bytes),
            *(str((entry.hlo or {}).get(name, numbers.UNKNOWN)) for name in names),
        ]
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        rows.append(
            f'<tr><td class="name">{escape(naming.short(entry.strategy))}</td>{cells}'
            f'<td class="name soft">{escape((entry.program or numbers.UNKNOWN)[:8])}</td></tr>'
        )
    return (
        "<details><summary>What the compiler says</summary><div class='scroll'><table><thead>"
        f"<tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _method(comparison: Record) -> str:
    known = {
        **{name.replace("_", " "): value for name, value in comparison.environment.items()},
        **{
            f"roofs of {name}": f"{roofline.roofs(ceilings)}; {ceilings.source}"
            for name, ceilings in comparison.ceilings.items()
        },
    }
    terms = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"
        for name, value in known.items()
        if value is not None
    )
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in METHOD)
    return f'<h2>How and where</h2><div class="card">{paragraphs}<dl>{terms}</dl></div>'
