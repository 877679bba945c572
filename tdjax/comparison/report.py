"""A comparison as one HTML file: no scripts, no fonts, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from tdjax.comparison import wording
from tdjax.comparison.entry import Entry, Group, grouped
from tdjax.comparison.report_compiled import compiled_rows, saving
from tdjax.comparison.report_style import STYLE
from tdjax.comparison.result import Comparison
from tdjax.comparison.verdict import Verdict
from tdjax.comparison.why import MOST, of_verdict

_LONGEST = 5.0
_METHOD = (
    "Every strategy was traced, lowered, compiled and first called apart from the samples. "
    "Samples were taken in rounds, each candidate once a round in random order; a bar is the "
    "median, the whisker its 95% bootstrap interval, a thin line one sample. Ratios are paired "
    "round by round. A win leads by more than 3% with its whole interval; a tie is within 10%. "
    "The error is the largest difference from the reference's answer, relative to the largest "
    "value in that array. A device that is not here was compiled for, by its own compiler: "
    "nothing ran, and what leads does so by the compiler's estimate of cycles (TPUs) or by the "
    "bytes that the program accesses, with loops counted as often as they run. Neither is a time."
)


def html(comparison: Comparison) -> str:
    """Return the report as the text of an HTML file."""
    verdicts = {verdict.group: verdict for verdict in comparison.verdicts}
    workloads: dict[str, list[str]] = {}
    for group, entries in grouped(comparison.entries).items():
        card = _card(entries, verdicts.get(group), group, comparison.reference)
        workloads.setdefault(group.workload, []).append(card)
    sections = "".join(
        f"<section><h2>{escape(name)}</h2>"
        f'<p class="soft">{escape(comparison.workloads.get(name, ""))}</p>{"".join(cards)}'
        "</section>"
        for name, cards in workloads.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(_title(workloads))}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(_title(workloads))}</h1>{_subtitle(comparison)}"
        f"{_verdicts(comparison)}{sections}{_environment(comparison)}</main></body></html>\n"
    )


def _title(workloads: Iterable[str]) -> str:
    names = list(workloads)
    return f"tdjax: {names[0]}" if len(names) == 1 else "tdjax: strategies compared"


def _subtitle(comparison: Comparison) -> str:
    known = comparison.environment
    parts = [known.get("devices"), known.get("processor"), f"{known.get('cores')} cores"]
    parts += [f"jax {known.get('jax')}", known.get("date")]
    line = " · ".join(str(part) for part in parts if part)
    note = "<p><b>Interrupted: what was measured until then.</b></p>"
    return f'<p class="soft">{escape(line)}</p>{note if comparison.interrupted else ""}'


def _verdicts(comparison: Comparison) -> str:
    rows = []
    for verdict in comparison.verdicts:
        names = wording.fastest(verdict)
        speed = "" if verdict.speedup is None else f"{verdict.speedup:.2f}x"
        bounds = ""
        if verdict.speedup_low is not None and verdict.speedup_low != verdict.speedup_high:
            bounds = f"{verdict.speedup_low:.2f} to {verdict.speedup_high:.2f}"
        elif verdict.evidence == "compiled":
            bounds = escape(saving(verdict, comparison.reference))
        rows.append(
            f'<tr><td class="left"><b>{escape(verdict.workload)}</b><br>'
            f'<span class="soft">{_where(verdict.group)}</span></td>'
            f'<td class="left">{_badge(verdict)}</td><td class="left name">{escape(names)}</td>'
            f'<td class="soft">{bounds}</td><td><b>{speed}</b></td></tr>'
        )
    head = (
        '<tr><th class="left">workload</th><th class="left">verdict</th>'
        '<th class="left">fastest</th><th>95% interval</th>'
        f"<th>speed / {escape(comparison.reference)}</th></tr>"
    )
    return (
        f'<div class="card"><h3>Verdicts</h3><table class="verdicts"><thead>{head}</thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _where(group: Group) -> str:
    compiled = " (compiled)" if group.evidence == "compiled" else ""
    return f"{wording.MODE_TITLES[group.mode]}, {escape(group.target)}{compiled}"


def _badge(verdict: Verdict) -> str:
    return f'<span class="badge {verdict.kind}">{verdict.kind}</span>'


def _card(entries: Sequence[Entry], verdict: Verdict | None, group: Group, reference: str) -> str:
    said = ""
    if verdict is not None:
        advice = f" {escape(verdict.advice)}." if verdict.advice else ""
        said = (
            f"<p>{_badge(verdict)} {escape(wording.short(verdict.text))}."
            f'<span class="soft">{advice[:2].upper()}{advice[2:]}</span></p>'
        )
    if verdict is not None:
        said += _reasons(of_verdict(entries, verdict, reference, MOST))
    if group.evidence == "compiled":
        table = compiled_rows(entries, verdict, reference)
        return _framed(group, said + table + _figures(entries))
    scale = _Scale(entries, reference)
    rows = "".join(_row(entry, verdict, scale) for entry in entries)
    head = (
        f'<tr><th>strategy</th><th class="left">time: <i class="key"></i> is '
        f"{escape(reference)}</th><th>median</th><th>95% interval</th>"
        f"<th>/ {escape(reference)}</th><th>compile</th><th>temporary</th><th>error</th></tr>"
    )
    table = f'<table class="rows"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    return _framed(group, said + table + _figures(entries))


def _framed(group: Group, content: str) -> str:
    return (
        f'<div class="card"><div class="head"><h3>{wording.MODE_TITLES[group.mode]}</h3>'
        f'<span class="soft">{escape(group.evidence)} on {escape(group.target)}</span></div>'
        f"{content}</div>"
    )


def _reasons(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="reasons">{items}</ul>' if items else ""


class _Scale:
    """Where a time lies on a group's axis, in percent: 0 at the left, capped at the right."""

    def __init__(self, entries: Sequence[Entry], reference: str) -> None:
        ends = [e.median_high_s or e.median_s or 0.0 for e in entries if e.status == "ok"]
        medians = [e.median_s for e in entries if e.status == "ok" and e.median_s]
        cap = _LONGEST * min(medians, default=1.0)
        self._end = 1.04 * min(max(ends, default=1.0), cap)
        self.rule = next((e.median_s for e in entries if e.strategy == reference), None)

    def over(self, seconds: float) -> bool:
        """Whether the axis ends before this time."""
        return seconds > self._end

    def at(self, seconds: float) -> float:
        """Return the percentage."""
        return min(100.0, 100 * seconds / self._end)


def _row(entry: Entry, verdict: Verdict | None, scale: _Scale) -> str:
    leads = verdict is not None and verdict.leads(entry)
    classes = "lead" if leads else "off" if entry.status != "ok" else ""
    ratio = "" if entry.ratio is None else f"{entry.ratio:.2f}"
    if entry.same_as is not None:
        ratio = f"= {escape(wording.short(entry.same_as))}"
    median = entry.status if entry.median_s is None else wording.seconds(entry.median_s)
    bounds = ""
    if entry.median_low_s is not None and entry.median_high_s is not None:
        unit, per_second = wording.time_unit([entry.median_s])
        low = wording.digits(entry.median_low_s * per_second)
        bounds = f"{low} to {wording.digits(entry.median_high_s * per_second)} {unit}"
    facts = (
        ("compile", wording.seconds(entry.compile_s)),
        ("temporary", wording.memory(entry.temp_bytes)),
        ("error", wording.agreement(entry)),
    )
    cells = "".join(
        f'<td class="fact" data-label="{label}">{escape(value)}</td>' for label, value in facts
    )
    why = f'<div class="why">{escape(wording.reason(entry))}</div>' if entry.error else ""
    return (
        f'<tr class="{classes}"><td class="name">{escape(wording.short(entry.strategy))}</td>'
        f'<td class="time left">{_track(entry, scale)}{why}</td>'
        f'<td class="median">{median}</td><td class="soft bounds">{bounds}</td>'
        f'<td class="ratio">{ratio}</td>{cells}</tr>'
    )


def _track(entry: Entry, scale: _Scale) -> str:
    if entry.median_s is None:
        return ""
    over = " over" if scale.over(entry.median_s) else ""
    marks = [f'<i class="bar{over}" style="width:{scale.at(entry.median_s):.2f}%"></i>']
    if not over and entry.status == "ok":
        marks += [
            f'<i class="dot" style="left:{scale.at(sample):.2f}%"></i>'
            for sample in entry.samples_s
            if not scale.over(sample)
        ]
    if entry.median_low_s is not None and entry.median_high_s is not None and not over:
        low, high = scale.at(entry.median_low_s), scale.at(entry.median_high_s)
        marks.append(f'<i class="range" style="left:{low:.2f}%;width:{high - low:.2f}%"></i>')
    if scale.rule is not None and not scale.over(scale.rule):
        marks.append(f'<i class="rule" style="left:{scale.at(scale.rule):.2f}%"></i>')
    return f'<div class="track">{"".join(marks)}</div>'


def _figures(entries: Sequence[Entry]) -> str:
    """The compiler's figures, folded away."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.hlo or {}))
    titles = [
        "samples",
        "trace",
        "lower",
        "first run",
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
            wording.seconds(entry.trace_s),
            wording.seconds(entry.lower_s),
            wording.seconds(entry.first_run_s),
            wording.UNKNOWN if entry.flops is None else f"{entry.flops:.3g}",
            wording.memory(None if entry.bytes_accessed is None else int(entry.bytes_accessed)),
            wording.memory(entry.comm_bytes),
            *(str((entry.hlo or {}).get(name, wording.UNKNOWN)) for name in names),
        ]
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        rows.append(
            f'<tr><td class="name">{escape(wording.short(entry.strategy))}</td>{cells}'
            f'<td class="name soft">{escape((entry.program or wording.UNKNOWN)[:8])}</td></tr>'
        )
    return (
        "<details><summary>What the compiler says</summary><div class='scroll'><table><thead>"
        f"<tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _environment(comparison: Comparison) -> str:
    terms = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(str(value))}</dd>"
        for name, value in comparison.environment.items()
        if value is not None
    )
    return f'<h2>How and where</h2><div class="card"><p>{escape(_METHOD)}</p><dl>{terms}</dl></div>'
