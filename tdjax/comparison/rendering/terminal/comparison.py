"""A comparison as tables for a terminal, by rich: the answers first, then what they rest on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.charts.points import judged_groups
from tdjax.comparison.rendering.terminal import compiled
from tdjax.comparison.rendering.terminal.auto_rivals import rival_tables
from tdjax.comparison.rendering.terminal.console import Column, Fitted, heading, labeled, table
from tdjax.comparison.rendering.terminal.density import density_tables
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.answers import FASTEST, QUESTIONS, Answer
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.intervals import Interval
from tdjax.comparison.verdicts.records import Record
from tdjax.comparison.verdicts.why import of_answer

_BAR = 20
_COLORS = {"win": "green", "level": "cyan", "unclear": "yellow", "none": "red"}


def renderable(comparison: Record) -> Fitted:
    """Return what `rich.print` shows; it fits itself to the console's width."""
    return Fitted(partial(_parts, comparison))


def _parts(comparison: Record, width: int) -> Iterator[Any]:
    from rich.text import Text

    groups = list(judged_groups(comparison))
    yield Text(comparison.summary, style="bold")
    yield Text(_headline(comparison), style="dim")
    reference = comparison.reference
    for group, entries, answer in groups:
        yield Text()
        yield heading(group, comparison.workloads.get(group.workload))
        reasons = of_answer(entries, answer, reference, comparison.ceilings.get(group.target))
        yield labeled(list(_said(answer, reasons)))
        found = compiled.columns if group.evidence == "compiled" else _columns
        styles = ["dim" if e.status != "ok" else "bold" if answer.leads(e) else "" for e in entries]
        yield table(list(found(entries, reference)), width, styles)
        yield from _notes(entries)
    if len(groups) > 1:
        yield from _overviews(comparison, width)
    yield from density_tables(comparison, width)
    yield from rival_tables(comparison.entries, width)
    if comparison.interrupted:
        yield Text("\ninterrupted: this is what was measured until then", style="bold yellow")


def _headline(comparison: Record) -> str:
    known = comparison.environment
    parts = (
        known.get("devices"),
        known.get("processor"),
        f"{known.get('cores')} cores",
        f"jax {known.get('jax')}",
        f"Python {known.get('python')}",
        known.get("date"),
    )
    return ", ".join(str(part) for part in parts if part)


def _said(answer: Answer, reasons: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield what is asked of a group, and the answers."""
    from rich.text import Text

    for question, asked in QUESTIONS.items():
        said = answer.text if question == FASTEST else answer.said.get(question)
        if said is not None:
            text = Text(said)
            if question == FASTEST and FASTEST not in answer.open:
                text = Text.assemble((answer.kind, f"bold {_COLORS[answer.kind]}"), ": ", said)
            yield asked, text
    if answer.advice is not None:
        yield "what helps?", Text(answer.advice, style="yellow")
    for place, reason in enumerate(reasons):
        yield "" if place else "why?", Text(reason, style="dim")


def _columns(entries: Sequence[Entry], reference: str) -> Iterator[Column]:
    fastest = min((entry.median_s for entry in entries if entry.median_s), default=1.0)
    unit, scale = numbers.time_unit([fastest])
    medians = [
        e.status if e.median_s is None else numbers.digits(e.median_s * scale) for e in entries
    ]
    ends = [numbers.interval(e.median_low_s, e.median_high_s, scale) for e in entries]
    apart = [
        "" if e.ratio_low == e.ratio_high == 1.0 else numbers.interval(e.ratio_low, e.ratio_high)
        for e in entries
    ]
    yield Column("strategy", [naming.named(entry) for entry in entries], names=True)
    yield Column(f"median {unit}", medians)
    yield Column("95% interval", ends, spare=4)
    yield Column(f"speed / {reference}", [numbers.hundredths(entry.ratio) for entry in entries])
    yield Column("95% interval", apart, spare=1)
    yield Column("compile s", [numbers.hundredths(entry.compile_s) for entry in entries], spare=5)
    yield Column("temp", [numbers.memory(entry.temp_bytes) for entry in entries], spare=3)
    yield Column("error", [naming.agreement(entry) for entry in entries], spare=2)
    yield Column(f"speed / {reference}", [_bar(entry, entries) for entry in entries], 6, names=True)


def _bar(entry: Entry, entries: Sequence[Entry]) -> str:
    """Return a bar as long as the speed."""
    fastest = max((e.ratio for e in entries if e.ratio), default=1.0)
    length = (entry.ratio or 0.0) / fastest * _BAR
    whole = int(length)
    return "█" * whole + " ▏▎▍▌▋▊▉"[int((length - whole) * 8)].strip()


def _notes(entries: Sequence[Entry]) -> Any:
    from rich.padding import Padding
    from rich.text import Text

    told: dict[str, list[str]] = {}
    for entry in entries:
        if entry.error is not None:
            told.setdefault(naming.reason(entry), []).append(naming.short(entry.strategy))
    for reason, strategies in told.items():
        yield Padding(Text(f"{', '.join(strategies)}: {reason}", style="dim"), (0, 0, 0, 2))


def _overviews(comparison: Record, width: int) -> Any:
    """Yield an overview of what was measured and one of what was compiled; they do not mix."""
    from rich.text import Text

    measured = [answer for answer in comparison.answers if answer.evidence == "measured"]
    compiled = [answer for answer in comparison.answers if answer.evidence == "compiled"]
    if measured:
        yield Text()
        yield _overview(measured, _measured(measured, comparison.reference), width)
    if compiled:
        savings = ["" if a.saving is None else numbers.speed(a.saving) for a in compiled]
        ratios = Column(f"{comparison.reference} / least", savings)
        names = Column("least cycles or bytes", [a.names() for a in compiled], names=True)
        yield Text()
        yield _overview(compiled, [names, ratios], width)
        programs = [e for e in comparison.entries if e.evidence == "compiled" and e.status == "ok"]
        cut = sum(entry.error is not None for entry in programs)
        if cut:
            text = (
                f"{cut} of {len(programs)} programs have no estimate of cycles: their compilers "
                "were not waited for (`tdjax compare --within none` waits)"
            )
            yield Text(text, style="dim")


def _measured(found: Sequence[Answer], reference: str) -> Iterator[Column]:
    for name in ("fold", "auto"):
        ratios = [getattr(answer, f"{name}_over_vmap") for answer in found]
        if any(ratios):
            cells = [_speed(r, name in a.open) for a, r in zip(found, ratios, strict=True)]
            yield Column(f"{name} / {reference}", cells, spare=2 if name == "fold" else 0)
    behind = [answer.auto_behind_best for answer in found]
    if any(behind):
        yield Column(
            "auto behind best",
            ["" if b is None else numbers.share(b.value) for b in behind],
            spare=3,
        )
    yield Column("fastest", [answer.names() for answer in found], names=True)


def _speed(ratio: Interval | None, is_open: bool) -> str:
    """Return a ratio of speeds; where it is open, both ends of what it can be."""
    if ratio is None:
        return ""
    if is_open and ratio.low is not None and ratio.high is not None:
        return f"{numbers.digits(ratio.low)} to {numbers.digits(ratio.high)}x"
    return numbers.speed(ratio.value)


def _overview(found: Sequence[Answer], columns: Iterable[Column], width: int) -> Any:
    several = found[0].evidence == "compiled" or len({answer.target for answer in found}) > 1
    places = [Column("target", [a.target for a in found], names=True)] if several else []
    kinds = [answer.kind for answer in found]
    first = [
        Column("workload", [answer.workload for answer in found], names=True),
        Column("mode", [answer.mode for answer in found], names=True),
        *places,
        Column("answer", kinds, names=True, spare=4),
    ]
    return table(
        [*first, *columns], width, cell_styles={"answer": [_COLORS[kind] for kind in kinds]}
    )
