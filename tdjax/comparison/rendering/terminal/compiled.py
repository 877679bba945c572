"""The table of a group that was compiled for a device that is not here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tdjax.comparison import numbers
from tdjax.comparison.rendering.terminal.console import Column
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.metric import BYTES, CYCLES, advantage, figure, heading, metric_of

_TITLES = {CYCLES: "est. cycles", BYTES: "bytes"}


def columns(entries: Sequence[Entry], reference: str) -> Iterator[Column]:
    """Yield the columns: figures, each beside its ratio to the reference's."""
    against = next((entry for entry in entries if entry.strategy == reference), None)
    yield Column("strategy", [naming.named(entry) for entry in entries], names=True)
    metric = metric_of(entries)
    for name in (CYCLES, BYTES) if metric == CYCLES else (BYTES,):
        found = [advantage(entry, against, name) for entry in entries]
        ratios = [numbers.hundredths(ratio and ratio.value) for ratio in found]
        yield Column(_TITLES[name], [_figure(entry, name) for entry in entries])
        yield Column(heading(name, reference), ratios, spare=0 if name == metric else 4)
    yield from _sent(entries)
    yield Column("flops", [numbers.count(entry.flops) for entry in entries], spare=3)
    yield Column("temp", [numbers.memory(entry.temp_bytes) for entry in entries], spare=2)
    yield Column("compile s", [numbers.hundredths(e.compile_s) for e in entries], spare=5)


def _sent(entries: Sequence[Entry]) -> Iterator[Column]:
    """Yield what devices send each other; nothing where none does."""
    if any(entry.comm_bytes for entry in entries):
        counts = [None if entry.hlo is None else entry.hlo.get("collectives") for entry in entries]
        yield Column("collectives", list(map(numbers.count, counts)), spare=1)
        yield Column("sent", [numbers.memory(entry.comm_bytes) for entry in entries])


def _figure(entry: Entry, metric: str) -> str:
    if entry.status != "ok":
        return entry.status
    value = figure(entry, metric)
    return numbers.memory(value) if metric == BYTES else numbers.count(value)
