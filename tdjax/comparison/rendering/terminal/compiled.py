"""The table of a group that was compiled for a device that is not here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tdjax.comparison import numbers
from tdjax.comparison.rendering.terminal.console import new_table
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.metric import BYTES, CYCLES, figure, metric_of, ratio
from tdjax.comparison.verdicts.verdict import Verdict

_TITLES = {CYCLES: "est. cycles", BYTES: "bytes"}
_LEAST_FIRST = ("compile s", f"{BYTES} ratio", "flops", "temp")
_GAP = 3


def compiled_table(
    entries: Sequence[Entry], verdict: Verdict | None, reference: str, width: int
) -> Any:
    """Return the table: figures, each beside its ratio to the reference's.

    Args:
        entries: a group's.
        verdict: what is said of it.
        reference: the strategy whose ratio is 1.00.
        width: the letters of a line; columns that do not fit are left out, those that matter
            least first.
    """
    columns = _columns(entries, reference)
    for name in _LEAST_FIRST:
        if _needed(columns) > width:
            columns = [column for column in columns if column.name != name]
    table = new_table(*(column.title for column in columns))
    for place, entry in enumerate(entries):
        leads = verdict is not None and verdict.leads(entry)
        style = "dim" if entry.status != "ok" else "bold" if leads else None
        table.add_row(*(column.cells[place] for column in columns), style=style)
    return table


class _Column(NamedTuple):
    name: str
    title: str
    cells: list[str]


def _columns(entries: Sequence[Entry], reference: str) -> list[_Column]:
    against = next((entry for entry in entries if entry.strategy == reference), None)
    columns = [_Column("strategy", "strategy", [naming.named(e) for e in entries])]
    metrics = [CYCLES, BYTES] if metric_of(entries) == CYCLES else [BYTES]
    for metric in metrics:
        ratios = [ratio(entry, against, metric) for entry in entries]
        columns += [
            _Column(metric, _TITLES[metric], [_figure(entry, metric) for entry in entries]),
            _Column(f"{metric} ratio", f"/ {reference}", ratios),
        ]
    facts = {
        **_sent(entries),
        "flops": [numbers.count(e.flops) for e in entries],
        "temp": [numbers.memory(e.temp_bytes) for e in entries],
        "compile s": [numbers.hundredths(e.compile_s) for e in entries],
    }
    return [*columns, *(_Column(name, name, cells) for name, cells in facts.items())]


def _sent(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Return what devices send each other; nothing where none does."""
    if not any(entry.comm_bytes for entry in entries):
        return {}
    counts = [None if entry.hlo is None else entry.hlo.get("collectives") for entry in entries]
    return {
        "collectives": list(map(numbers.count, counts)),
        "sent": [numbers.memory(entry.comm_bytes) for entry in entries],
    }


def _figure(entry: Entry, metric: str) -> str:
    if entry.status != "ok":
        return entry.status
    value = figure(entry, metric)
    return numbers.memory(value) if metric == BYTES else numbers.count(value)


def _needed(columns: Sequence[_Column]) -> int:
    widths = [max(map(len, (column.title, *column.cells))) for column in columns]
    return sum(widths) + _GAP * (len(columns) - 1)
