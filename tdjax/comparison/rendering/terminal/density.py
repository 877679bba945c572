"""Time against the part of steps that is real, as a table for a terminal, by rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.charts.density import IDEAL, DensityChart, density_charts
from tdjax.comparison.rendering.terminal.console import Column, table
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.records import Record


def density_tables(comparison: Record, width: int) -> Iterator[Any]:
    """Yield a table for each series of workloads that differ in their masks alone."""
    from rich.text import Text

    for chart in density_charts(comparison).values():
        unit, _ = _unit(chart)
        said = f", {chart.title}: {unit}, by the part that is real"
        yield Text()
        yield Text.assemble((chart.group.workload, "bold"), said)
        yield _table(chart, width)


def _unit(chart: DensityChart) -> tuple[str, float]:
    return numbers.time_unit([seconds for line in chart.lines for seconds in line.times_s])


def _table(chart: DensityChart, width: int) -> Any:
    """Return a row for each strategy, the ideal, and the speeds of those that pack."""
    _, scale = _unit(chart)
    rows = [
        (
            naming.short(line.strategy),
            _times([line.at(part) for part in chart.parts], scale),
            "bold" if line.packs else None,
        )
        for line in chart.lines
    ]
    if chart.ideal_s is not None:
        ideal: list[float | None] = [chart.ideal_s * part for part in chart.parts]
        rows.append((IDEAL, _times(ideal, scale), "dim"))
    for line in chart.lines:
        if line.packs:
            title = f"speed of {naming.short(line.strategy)} / best of them"
            rows.append((title, list(map(numbers.speed, chart.speeds(line))), "bold green"))
    columns = [Column("strategy", [name for name, *_ in rows], names=True)]
    for place, part in enumerate(chart.part_names):
        columns.append(Column(part, [cells[place] for _, cells, _ in rows]))
    return table(columns, width, [style for *_, style in rows])


def _times(values: Sequence[float | None], scale: float) -> list[str]:
    return [numbers.UNKNOWN if v is None else numbers.digits(v * scale) for v in values]
