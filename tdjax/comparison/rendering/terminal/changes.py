"""Two runs side by side as tables for a terminal, by rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.rendering.terminal.console import Fitted, heading, new_table
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.changes import (
    AGREES,
    CHANGED,
    FIGURES,
    REVERSED,
    TEMP,
    Changes,
    GroupChange,
    StrategyChange,
    describe,
)
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.intervals import Interval
from tdjax.comparison.verdicts.metric import BYTES, CYCLES, TIME, metric_of
from tdjax.comparison.verdicts.records import Record

_MEDIUM = 92
_WIDE = 100
_WIDEST = 120
_COLORS = {AGREES: "green", CHANGED: "yellow", REVERSED: "bold red"}
_TITLES = {CYCLES: "est. cycles", BYTES: "bytes", TEMP: "temp"}


def renderable(changes: Changes) -> Fitted:
    """Return what `rich.print` shows; it fits itself to the console's width."""
    return Fitted(partial(_parts, changes))


def _parts(changes: Changes, width: int) -> Iterator[Any]:
    from rich.text import Text

    yield _headline("old", changes.old)
    yield _headline("new", changes.new)
    for setting in changes.settings:
        values = [_value(setting.old), _value(setting.new)]
        yield Text(f"{setting.name}: {' → '.join(values)}", style="yellow")
    for reason in changes.apart:
        yield Text(reason, style="bold yellow")
    for change in changes.groups:
        yield Text()
        about = {run.workloads.get(change.group.workload) for run in (changes.old, changes.new)}
        yield heading(change.group, about.pop() if len(about) == 1 else None)
        yield _table(change, changes, width)
        yield from _notes(change)
        yield _verdicts(change)
    yield Text()
    yield from _closing(changes)


def _headline(name: str, run: Record) -> Any:
    from rich.text import Text

    known = run.environment
    cores = known.get("cores")
    parts = (
        known.get("date"),
        known.get("devices"),
        known.get("processor"),
        None if cores is None else f"{cores} cores",
    )
    text = Text(f"{name}: {', '.join(str(part) for part in parts if part)}", style="dim")
    return text.append(", interrupted", style="yellow") if run.interrupted else text


def _value(value: Any) -> str:
    return "none" if value is None else str(value)


def _table(change: GroupChange, changes: Changes, width: int) -> Any:
    if change.apart is not None:
        return _own_ratios(change, changes, width)
    if change.group.evidence == "compiled":
        return _figures(change, width)
    return _times(change, width)


def _times(change: GroupChange, width: int) -> Any:
    medians = [e.median_s for row in change.strategies for e in (row.old, row.new) if e]
    unit, scale = numbers.time_unit([min((m for m in medians if m), default=1.0)])
    narrow = width < _MEDIUM
    spread = "±" if narrow else "95% interval"
    table = new_table("strategy", f"old {unit}", f"new {unit}", "new/old", spread)
    memories = ["temp_bytes", *(["peak_bytes"] if width >= _WIDEST else [])]
    for title in ("compile s", *(name.removesuffix("_bytes") for name in memories)):
        table.add_column(title, justify="right", no_wrap=not narrow)
    for row in change.strategies:
        both = (row.old, row.new)
        compiled = [None if e is None else e.compile_s for e in both]
        sizes = [[None if e is None else getattr(e, name) for e in both] for name in memories]
        table.add_row(
            naming.short(row.strategy),
            *(_median(entry, scale) for entry in both),
            numbers.hundredths(row.ratio and row.ratio.value),
            _uncertainty(row.ratio, narrow),
            _pair(list(map(numbers.hundredths, compiled))),
            *(_pair(list(map(numbers.memory, pair))) for pair in sizes),
            style=_style(row.ratio),
        )
    return table


def _own_ratios(change: GroupChange, changes: Changes, width: int) -> Any:
    """Show each run's ratios to its own reference: they are read down, never across."""
    metric = metric_of(_entries(change))
    intervals = metric == TIME and width >= _MEDIUM
    what = "" if metric == TIME else f"{_TITLES[metric]} "
    headings: list[str] = []
    bases = []
    for name, run in (("old", changes.old), ("new", changes.new)):
        headings += [f"{name} {what}/ {run.reference}", *(["95% interval"] * intervals)]
        entries = [getattr(row, name) for row in change.strategies]
        bases.append(next((e for e in entries if e and e.strategy == run.reference), None))
    table = new_table("strategy", *headings)
    for row in change.strategies:
        cells = []
        for entry, base in zip((row.old, row.new), bases, strict=True):
            cells += [_own_ratio(entry, base, metric), *([_own_bounds(entry)] * intervals)]
        table.add_row(naming.short(row.strategy), *cells)
    return table


def _own_ratio(entry: Entry | None, base: Entry | None, metric: str) -> str:
    if entry is None:
        return numbers.UNKNOWN
    if entry.status != "ok":
        return _status(entry)
    if entry.same_as is not None:
        return f"= {naming.short(entry.same_as)}"
    if metric == TIME:
        return numbers.hundredths(entry.ratio)
    own, against = _figure(entry, metric), _figure(base, metric)
    return numbers.hundredths(own / against if own is not None and against else None)


def _own_bounds(entry: Entry | None) -> str:
    if entry is None or entry.status != "ok" or entry.same_as is not None:
        return ""
    if entry.ratio_low == entry.ratio_high:
        return ""
    return numbers.interval(entry.ratio_low, entry.ratio_high)


def _figures(change: GroupChange, width: int) -> Any:
    metrics = [name for name in FIGURES if any(_figure(e, name) for e in _entries(change))]
    # Where room is short, only the figure that the group is ranked by has its ratio.
    rated = metrics if width >= _WIDE else metrics[:1]
    headings = []
    for metric in metrics:
        headings += [_TITLES[metric], *(["new/old"] if metric in rated else [])]
    table = new_table("strategy", *headings)
    for row in change.strategies:
        cells = []
        for metric in metrics:
            cells.append(_pair([_shown(entry, metric) for entry in (row.old, row.new)]))
            cells += [_quotient(row, metric)] if metric in rated else []
        style = "dim" if row.same else None
        table.add_row(naming.short(row.strategy), *cells, style=style)
    return table


def _entries(change: GroupChange) -> list[Entry]:
    return [entry for row in change.strategies for entry in (row.old, row.new) if entry]


def _figure(entry: Entry | None, metric: str) -> float | None:
    value: float | None = None if entry is None else getattr(entry, metric)
    return value


def _shown(entry: Entry | None, metric: str) -> str:
    if entry is not None and entry.status != "ok":
        return _status(entry)
    return (numbers.count if metric == CYCLES else numbers.memory)(_figure(entry, metric))


def _quotient(row: StrategyChange, metric: str) -> str:
    values = [_figure(entry, metric) for entry in (row.old, row.new)]
    if None in values:
        return numbers.UNKNOWN
    if values[0] == values[1]:
        return "same"
    ratio = row.figures.get(metric)
    return numbers.UNKNOWN if ratio is None else f"{ratio:.3f}"


def _median(entry: Entry | None, scale: float) -> str:
    if entry is None:
        return numbers.UNKNOWN
    if entry.status != "ok" or entry.median_s is None:
        return _status(entry)
    return numbers.digits(entry.median_s * scale)


def _status(entry: Entry) -> str:
    return "cut" if entry.status == "timeout" else entry.status


def _pair(shown: Sequence[str]) -> str:
    """Return both sides, without what they share: "2.10 MB", "1.20 → 2.10 MB"."""
    if shown[0] == shown[1]:
        return shown[0]
    (first, _, unit), other = shown[0].partition(" "), shown[1].partition(" ")[2]
    # "900 → 1.80 k" would leave open what 900 is; bytes always have a unit.
    shared = unit == other and unit.endswith("B")
    return f"{first if shared else shown[0]} → {shown[1]}"


def _uncertainty(ratio: Interval | None, narrow: bool) -> str:
    if ratio is None:
        return ""
    if narrow:
        return numbers.half_width(ratio.value, ratio.low, ratio.high)
    return numbers.interval(ratio.low, ratio.high)


def _style(ratio: Interval | None) -> str | None:
    """Color what the interval says is faster or slower."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return None
    return "green" if ratio.high < 1 else "red" if ratio.low > 1 else None


def _notes(change: GroupChange) -> Any:
    """Yield what only one run has, and where a strategy got another status or reason."""
    from rich.text import Text

    for row in change.strategies:
        name = naming.short(row.strategy)
        if row.old is None or row.new is None:
            which = "new" if row.old is None else "old"
            yield Text(f"  {name}: only in the {which} run", style="dim")
        elif row.old.status != row.new.status:
            sides = [
                f"{run}: {naming.reason(entry) or entry.status}"
                for run, entry in (("old", row.old), ("new", row.new))
            ]
            yield Text(f"  {name}: {'; '.join(sides)}", style="dim")


def _verdicts(change: GroupChange) -> Any:
    from rich.text import Text

    said = [describe(verdict) for verdict in (change.old, change.new)]
    if change.outcome is None:
        return Text(f"old: {said[0]}; new: {said[1]}")
    shown = said[0] if said[0] == said[1] else " → ".join(said)
    return Text.assemble((change.outcome, _COLORS[change.outcome]), f": {shown}")


def _closing(changes: Changes) -> Any:
    from rich.text import Text

    for name, groups in (("old", changes.only_old), ("new", changes.only_new)):
        if groups:
            named = ", ".join(f"{g.workload} {g.mode} on {g.target}" for g in groups)
            yield Text(f"only the {name} run has: {named}")
    if not changes.groups:
        yield Text("the runs have nothing in common", style="bold yellow")
    if changes.wins:
        text = f"win verdicts: {changes.agreeing} of {changes.wins} agree"
        yield Text(f"{text}, {changes.reversed or 'none'} reversed", style="bold")
    elif any(change.outcome for change in changes.groups):
        yield Text("no verdict is a win in either run", style="bold")
    if changes.mean_ratio is not None:
        yield Text(
            f"times, new/old: {changes.mean_ratio:.3f} (geometric mean of {len(changes.ratios)})",
            style="bold",
        )
    if changes.compiled:
        same = sum(row.same for row in changes.compiled)
        text = f"compiled: {same} of {len(changes.compiled)} programs have the same figures"
        yield Text(text, style="bold")
