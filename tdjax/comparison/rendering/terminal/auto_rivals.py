"""How `auto` does against its rivals, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.charts.auto_rivals import (
    Against,
    against_oracle,
    against_peers,
    geometric_mean,
)
from tdjax.comparison.rendering.terminal.console import Column, table
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry


def rival_tables(entries: Sequence[Entry], width: int) -> Iterator[Any]:
    """Yield a table for each kind of rival that was measured."""
    from rich.text import Text

    if oracle := against_oracle(entries):
        yield from _table(oracle, "best of all", width)
        overall = geometric_mean([each.speed.value for each in oracle])
        yield Text(f"auto is {overall:.2f}x as fast as the best of all (geometric mean)")
    if peers := against_peers(entries):
        yield from _table(peers, "best rival", width)
        overall = geometric_mean([each.speed.value for each in peers])
        names = dict.fromkeys(name for each in peers for name in each.each)
        singles = {
            name: geometric_mean([each.each[name] for each in peers if name in each.each])
            for name in names
        }
        text = f"auto is {overall:.2f}x as fast as the best rival of each (geometric mean); "
        text += ", ".join(f"{value:.2f}x as fast as {name}" for name, value in singles.items())
        yield Text(text)


def _table(found: Sequence[Against], best: str, width: int) -> Iterator[Any]:
    from rich.text import Text

    bounds = [
        "same program" if each.same else numbers.interval(each.speed.low, each.speed.high)
        for each in found
    ]
    columns = [
        Column("workload", [each.group.workload for each in found], names=True),
        Column("mode", [each.group.mode for each in found], names=True),
        Column(best, [naming.short(each.best) for each in found], names=True),
        Column("auto / it", [numbers.speed(each.speed.value) for each in found]),
        Column("95% interval", bounds, spare=1),
    ]
    yield Text()
    yield table(columns, width)
