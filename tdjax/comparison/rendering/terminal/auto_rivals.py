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
from tdjax.comparison.rendering.terminal.console import new_table
from tdjax.comparison.verdicts.entry import Entry


def rival_tables(entries: Sequence[Entry]) -> Iterator[Any]:
    """Yield a table for each kind of rival that was measured."""
    from rich.text import Text

    if oracle := against_oracle(entries):
        yield from _table(oracle, "best of all")
        overall = geometric_mean([each.speed.value for each in oracle])
        yield Text(f"auto is {overall:.2f}x as fast as the best of all (geometric mean)")
    if peers := against_peers(entries):
        yield from _table(peers, "best rival")
        overall = geometric_mean([each.speed.value for each in peers])
        names = dict.fromkeys(name for each in peers for name in each.each)
        singles = {
            name: geometric_mean([each.each[name] for each in peers if name in each.each])
            for name in names
        }
        text = f"auto is {overall:.2f}x as fast as the best rival of each (geometric mean); "
        text += ", ".join(f"{value:.2f}x as fast as {name}" for name, value in singles.items())
        yield Text(text)


def _table(found: Sequence[Against], best: str) -> Iterator[Any]:
    from rich.text import Text

    table = new_table("workload", "mode", best, "auto is", "95% interval", left=3)
    for each in found:
        bounds = numbers.interval(each.speed.low, each.speed.high)
        cells = (each.best, f"{each.speed.value:.2f}x", "same program" if each.same else bounds)
        table.add_row(each.group.workload, each.group.mode, *cells)
    yield Text()
    yield table
