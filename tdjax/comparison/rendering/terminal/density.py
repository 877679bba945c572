"""Time against the part of steps that is real, as a table for a terminal, by rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.charts.density import IDEAL, DensityChart, density_charts
from tdjax.comparison.rendering.terminal.console import new_table
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.records import Record


def density_tables(comparison: Record) -> Iterator[Any]:
    """Yield a table for each series of workloads that differ in their masks alone."""
    from rich.text import Text

    for chart in density_charts(comparison).values():
        unit, _ = _unit(chart)
        said = f", {chart.title}: {unit}, by the part that is real"
        yield Text()
        yield Text.assemble((chart.group.workload, "bold"), said)
        yield _table(chart)


def _unit(chart: DensityChart) -> tuple[str, float]:
    return numbers.time_unit([seconds for line in chart.lines for seconds in line.times_s])


def _table(chart: DensityChart) -> Any:
    _, scale = _unit(chart)
    table = new_table("strategy", *chart.part_names)
    for line in chart.lines:
        times = [line.at(part) for part in chart.parts]
        style = "bold" if line.packs else None
        table.add_row(naming.short(line.strategy), *_times(times, scale), style=style)
    if chart.ideal_s is not None:
        ideal = [chart.ideal_s * part for part in chart.parts]
        table.add_row(IDEAL, *_times(ideal, scale), style="dim", end_section=True)
    for line in chart.lines:
        if line.packs:
            title = f"speed of {naming.short(line.strategy)} / best of them"
            table.add_row(title, *map(numbers.speed, chart.speeds(line)), style="bold green")
    return table


def _times(values: Sequence[float | None], scale: float) -> list[str]:
    return [numbers.UNKNOWN if v is None else numbers.digits(v * scale) for v in values]
