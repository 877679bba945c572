"""A comparison as a table for a terminal, by rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.charts.points import judged_groups
from tdjax.comparison.rendering.terminal.auto_rivals import rival_tables
from tdjax.comparison.rendering.terminal.compiled import compiled_table
from tdjax.comparison.rendering.terminal.console import Fitted, heading, new_table
from tdjax.comparison.rendering.terminal.density import density_tables
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.records import Record
from tdjax.comparison.verdicts.verdict import Verdict
from tdjax.comparison.verdicts.why import of_verdict

_MEDIUM = 92
_WIDE = 124
_BAR = 20
_REASONS = 2
_COLORS = {"win": "bold green", "tie": "bold cyan", "unstable": "bold yellow", "none": "bold red"}


def renderable(comparison: Record) -> Fitted:
    """Return what `rich.print` shows; it fits itself to the console's width."""
    return Fitted(partial(_parts, comparison))


def _parts(comparison: Record, width: int) -> Iterator[Any]:
    from rich.text import Text

    groups = list(judged_groups(comparison))
    yield Text(_headline(comparison), style="dim")
    for group, entries, verdict in groups:
        yield Text()
        yield heading(group, comparison.workloads.get(group.workload))
        table = compiled_table if group.evidence == "compiled" else _table
        yield table(entries, verdict, comparison.reference, width)
        yield from _notes(entries)
        if verdict is not None:
            yield _verdict(verdict)
            yield from _why(entries, verdict, comparison.reference)
    if len(groups) > 1:
        yield from _summaries(comparison)
    yield from density_tables(comparison)
    yield from rival_tables(comparison.entries)
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


def _table(entries: Sequence[Entry], verdict: Verdict | None, reference: str, width: int) -> Any:
    fastest = min((entry.median_s for entry in entries if entry.median_s), default=1.0)
    unit, scale = numbers.time_unit([fastest])
    narrow = width < _MEDIUM
    headings = [f"median {unit}", "±" if narrow else "95% interval", f"/ {reference}"]
    headings += [] if narrow else ["95% interval"]
    table = new_table("strategy", *headings, "compile s", "temp", "error")
    if width >= _WIDE:
        table.add_column(f"time / {reference}", no_wrap=True)
    for entry in entries:
        cells = _cells(entry, scale, narrow)
        if width >= _WIDE:
            cells.append(_bar(entry, entries))
        leads = verdict is not None and verdict.leads(entry)
        style = "dim" if entry.status != "ok" else "bold" if leads else None
        table.add_row(*cells, style=style)
    return table


def _cells(entry: Entry, scale: float, narrow: bool) -> list[str]:
    same = entry.same_as
    ratio = numbers.hundredths(entry.ratio) if same is None else f"= {naming.short(same)}"
    median = entry.status if entry.median_s is None else numbers.digits(entry.median_s * scale)
    if narrow:
        spread = [numbers.half_width(entry.median_s, entry.median_low_s, entry.median_high_s)]
        apart = []
    else:
        spread = [numbers.interval(entry.median_low_s, entry.median_high_s, scale)]
        apart = [numbers.interval(entry.ratio_low, entry.ratio_high)]
        if entry.same_as is not None or entry.ratio_low == entry.ratio_high == 1.0:
            apart = [""]
    sizes = [numbers.hundredths(entry.compile_s), numbers.memory(entry.temp_bytes)]
    known = [*sizes, naming.agreement(entry)]
    return [naming.named(entry), median, *spread, ratio, *apart, *known]


def _bar(entry: Entry, entries: Sequence[Entry]) -> str:
    """Return a bar as long as the time; one that does not fit ends in an arrow."""
    if entry.median_s is None:
        return ""
    longest = max((e.median_s for e in entries if e.status == "ok" and e.median_s), default=1.0)
    length = entry.median_s / longest * _BAR
    if length > _BAR * 1.001:
        return "█" * (_BAR - 1) + "▶"
    whole = int(length)
    return "█" * whole + " ▏▎▍▌▋▊▉"[int((length - whole) * 8)].strip()


def _notes(entries: Sequence[Entry]) -> Any:
    from rich.text import Text

    told: dict[str, list[str]] = {}
    for entry in entries:
        if entry.error is not None:
            told.setdefault(naming.reason(entry), []).append(naming.short(entry.strategy))
    for reason, strategies in told.items():
        yield Text(f"  {', '.join(strategies)}: {reason}", style="dim")


def _verdict(verdict: Verdict) -> Any:
    from rich.text import Text

    text = Text.assemble((verdict.kind, _COLORS[verdict.kind]), f": {naming.short(verdict.text)}")
    if verdict.advice is not None:
        text.append(f". {verdict.advice}", style="dim")
    return text


def _why(entries: Sequence[Entry], verdict: Verdict, reference: str) -> Any:
    from rich.padding import Padding
    from rich.text import Text

    # The first sentence sums up figures that the table has.
    for sentence in of_verdict(entries, verdict, reference, 1 + _REASONS)[1:]:
        yield Padding(Text(sentence, style="dim"), (0, 0, 0, 2))


def _summaries(comparison: Record) -> Any:
    """Yield a summary of what was measured and one of what was compiled; they do not mix."""
    from rich.text import Text

    measured = [verdict for verdict in comparison.verdicts if verdict.evidence == "measured"]
    compiled = [verdict for verdict in comparison.verdicts if verdict.evidence == "compiled"]
    if measured:
        speeds = ["" if v.speedup is None else f"{v.speedup:.2f}x" for v in measured]
        yield Text()
        yield _summary(measured, "fastest", f"speed / {comparison.reference}", speeds)
    if compiled:
        savings = ["" if v.saving is None else f"{v.saving:.2f}x" for v in compiled]
        yield Text()
        title = f"{comparison.reference} / least"
        yield _summary(compiled, "least cycles or bytes", title, savings)
        programs = [e for e in comparison.entries if e.evidence == "compiled" and e.status == "ok"]
        cut = sum(entry.error is not None for entry in programs)
        if cut:
            text = (
                f"{cut} of {len(programs)} programs have no estimate of cycles: their compilers "
                "were not waited for (`tdjax compare --within none` waits)"
            )
            yield Text(text, style="dim")


def _summary(verdicts: Sequence[Verdict], leaders: str, ratio: str, ratios: Sequence[str]) -> Any:
    from rich.text import Text

    compiled = verdicts[0].evidence == "compiled"
    several = compiled or len({verdict.target for verdict in verdicts}) > 1
    headings = ["workload", "mode", *(["target"] if several else []), "verdict", leaders]
    table = new_table(*headings, ratio, left=len(headings))
    table.columns[-2].no_wrap = False
    for verdict, value in zip(verdicts, ratios, strict=True):
        table.add_row(
            verdict.workload,
            verdict.mode,
            *([verdict.target] if several else []),
            Text(verdict.kind, style=_COLORS[verdict.kind]),
            verdict.fastest(),
            value,
        )
    return table
