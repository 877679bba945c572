"""The part of the report on a group that was measured: a bar, samples and interval each."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tdjax.comparison import numbers
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.verdict import Verdict

_LONGEST = 5.0


def measured_rows(entries: Sequence[Entry], verdict: Verdict | None, reference: str) -> str:
    """Return the table of a group: a bar and the figures of every candidate."""
    scale = _Scale(entries, reference)
    peak = any(entry.peak_bytes is not None for entry in entries)
    rows = "".join(_row(entry, verdict, scale, peak) for entry in entries)
    head = (
        f'<tr><th>strategy</th><th class="left">time: <i class="key"></i> is '
        f'{escape(reference)}</th><th>median</th><th class="bounds">95% interval</th>'
        f"<th>/ {escape(reference)}</th><th>compile</th>"
        f"<th>temporary</th>{'<th>peak</th>' if peak else ''}<th>error</th></tr>"
    )
    table = f'<table class="rows"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


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


def _row(entry: Entry, verdict: Verdict | None, scale: _Scale, peak: bool) -> str:
    leads = verdict is not None and verdict.leads(entry)
    classes = "lead" if leads else "off" if entry.status != "ok" or entry.control else ""
    ratio = "" if entry.ratio is None else f"{entry.ratio:.2f}"
    if entry.same_as is not None:
        ratio = f"= {escape(naming.short(entry.same_as))}"
    median = entry.status if entry.median_s is None else numbers.seconds(entry.median_s)
    bounds = ""
    if entry.median_low_s is not None and entry.median_high_s is not None:
        unit, per_second = numbers.time_unit([entry.median_s])
        low = numbers.digits(entry.median_low_s * per_second)
        bounds = f"{low} to {numbers.digits(entry.median_high_s * per_second)} {unit}"
    facts = (
        ("compile", numbers.seconds(entry.compile_s)),
        ("temporary", numbers.memory(entry.temp_bytes)),
        *([("peak", numbers.memory(entry.peak_bytes))] if peak else []),
        ("error", naming.agreement(entry)),
    )
    cells = "".join(
        f'<td class="fact" data-label="{label}">{escape(value)}</td>' for label, value in facts
    )
    why = f'<div class="why">{escape(naming.reason(entry))}</div>' if entry.error else ""
    return (
        f'<tr class="{classes}"><td class="name">{escape(naming.named(entry))}</td>'
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
        marks.append(_samples(entry, scale))
    if entry.median_low_s is not None and entry.median_high_s is not None and not over:
        low, high = scale.at(entry.median_low_s), scale.at(entry.median_high_s)
        marks.append(f'<i class="range" style="left:{low:.2f}%;width:{high - low:.2f}%"></i>')
    if scale.rule is not None and not scale.over(scale.rule):
        marks.append(f'<i class="rule" style="left:{scale.at(scale.rule):.2f}%"></i>')
    return f'<div class="track">{"".join(marks)}</div>'


def _samples(entry: Entry, scale: _Scale) -> str:
    """Return a thin line a sample, as one path: there may be thousands in a report."""
    places = [round(10 * scale.at(sample)) for sample in entry.samples_s if not scale.over(sample)]
    lines = "".join(f"M{place} 0v1" for place in sorted(places))
    return (
        '<svg class="dots" viewBox="0 0 1000 1" preserveAspectRatio="none">'
        f'<path d="{lines}"/></svg>'
    )
