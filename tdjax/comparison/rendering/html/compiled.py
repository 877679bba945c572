"""The part of the report on a group that was compiled for a device that is not here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tdjax.comparison import numbers
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.metric import BYTES, CYCLES, figure, metric_of, ratio, shown
from tdjax.comparison.verdicts.verdict import Verdict

_TITLES = {CYCLES: "the compiler's estimate of cycles", BYTES: "bytes accessed"}
_ROOM = 1.04


def compiled_rows(entries: Sequence[Entry], verdict: Verdict | None, reference: str) -> str:
    """Return the table of a group: a bar and the figures of every candidate."""
    metric = metric_of(entries)
    figures = [figure(entry, metric) or 0.0 for entry in entries]
    end = _ROOM * max([*figures, 1.0])
    against = next((entry for entry in entries if entry.strategy == reference), None)
    rule = None if against is None else figure(against, metric)
    rows = "".join(_row(entry, verdict, metric, against, rule, end) for entry in entries)
    head = (
        f'<tr><th>strategy</th><th class="left">{_TITLES[metric]}: <i class="key"></i> is '
        f"{escape(reference)}</th><th>{'cycles' if metric == CYCLES else 'bytes'}</th>"
        f"<th>/ {escape(reference)}</th><th>bytes</th><th>temporary</th><th>compile</th></tr>"
    )
    table = f'<table class="rows"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _row(
    entry: Entry,
    verdict: Verdict | None,
    metric: str,
    against: Entry | None,
    rule: float | None,
    end: float,
) -> str:
    leads = verdict is not None and verdict.leads(entry)
    classes = "lead" if leads else "off" if entry.status != "ok" else ""
    value = figure(entry, metric)
    facts = (
        ("bytes", shown(entry.bytes_accessed, BYTES)),
        ("temporary", numbers.memory(entry.temp_bytes)),
        ("compile", numbers.seconds(entry.compile_s)),
    )
    cells = "".join(
        f'<td class="fact" data-label="{label}">{escape(text)}</td>' for label, text in facts
    )
    why = f'<div class="why">{escape(naming.reason(entry))}</div>' if entry.error else ""
    median = entry.status if value is None else shown(value, metric)
    return (
        f'<tr class="{classes}"><td class="name">{escape(naming.short(entry.strategy))}</td>'
        f'<td class="time left">{_track(value, rule, end)}{why}</td>'
        f'<td class="median">{escape(median)}</td>'
        f'<td class="ratio">{escape(ratio(entry, against, metric))}</td>{cells}</tr>'
    )


def _track(value: float | None, rule: float | None, end: float) -> str:
    if value is None:
        return ""
    marks = f'<i class="bar" style="width:{100 * value / end:.2f}%"></i>'
    if rule is not None:
        marks += f'<i class="rule" style="left:{100 * rule / end:.2f}%"></i>'
    return f'<div class="track">{marks}</div>'
