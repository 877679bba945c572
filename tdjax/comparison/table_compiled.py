"""The table of a group that was compiled for a device that is not here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tdjax.comparison import wording
from tdjax.comparison.entry import Entry
from tdjax.comparison.metric import BYTES, CYCLES, figure, metric_of
from tdjax.comparison.verdict import Verdict


def compiled_table(entries: Sequence[Entry], verdict: Verdict | None, reference: str) -> Any:
    """Return the table: figures, each beside its ratio to the reference's."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("strategy", no_wrap=True)
    metrics = [CYCLES, BYTES] if metric_of(entries) == CYCLES else [BYTES]
    titles = {CYCLES: "est. cycles", BYTES: "bytes"}
    ranked = [heading for metric in metrics for heading in (titles[metric], f"/ {reference}")]
    for heading in (*ranked, "flops", "temp", "compile s"):
        table.add_column(heading, justify="right", no_wrap=True)
    against = next((entry for entry in entries if entry.strategy == reference), None)
    for entry in entries:
        leads = verdict is not None and verdict.leads(entry)
        style = "dim" if entry.status != "ok" else "bold" if leads else None
        table.add_row(*_cells(entry, against, metrics), style=style)
    return table


def ratio(entry: Entry, against: Entry | None, metric: str) -> str:
    """Return an entry's figure over the reference's, or of which one it is the same program."""
    if entry.same_as is not None:
        return f"= {wording.short(entry.same_as)}"
    own, base = figure(entry, metric), None if against is None else figure(against, metric)
    return f"{own / base:.2f}" if own is not None and base else wording.UNKNOWN


def _cells(entry: Entry, against: Entry | None, metrics: Sequence[str]) -> list[str]:
    cells = [wording.short(entry.strategy)]
    for metric in metrics:
        value = figure(entry, metric)
        written = wording.memory if metric == BYTES else wording.count
        shown = wording.UNKNOWN if value is None else written(int(value))
        cells += [shown if entry.status == "ok" else entry.status, ratio(entry, against, metric)]
    compile_s = wording.UNKNOWN if entry.compile_s is None else f"{entry.compile_s:.2f}"
    flops = wording.UNKNOWN if entry.flops is None else wording.count(entry.flops)
    return [*cells, flops, wording.memory(entry.temp_bytes), compile_s]
