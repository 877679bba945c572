"""The kinds of chart: what each needs, how it is drawn, and where it stands in the report.

To add one, write a file that draws it and add a line `register(ChartKind(...))` below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tdjax.comparison.charts import memory_time, roofline
from tdjax.comparison.charts.density import density_charts
from tdjax.comparison.rendering.pictures.bars import all_bars, overview
from tdjax.comparison.rendering.pictures.density import density_lines
from tdjax.comparison.rendering.pictures.points import points
from tdjax.comparison.verdicts.entry import Group
from tdjax.comparison.verdicts.records import Record


@dataclass(frozen=True)
class ChartKind:
    """A kind of chart.

    Attributes:
        name: the word for it in `Comparison.plot(kind=...)`.
        shows: what a picture of it says in its first line; `{reference}` stands for the
            reference's name.
        needs: what must be known to draw it, as the end of an error message.
        find: returns the charts of a comparison, by their group.
        draw: draws a chart into matplotlib's axes; may return a function that is called once the
            axes have their final size.
        together: in place of `draw`, returns a figure of all charts, with what they ran on.
        height: returns a panel's height in inches.
        in_report: whether the report has it: below the table of its group or, where the
            comparison has no such group, in a section of its own above the first workload of the
            series that it is named after. Such a chart needs a `title` and a `caption`.
        topic: the title of such a section, after the series' name.
    """

    name: str
    shows: str
    needs: str
    find: Callable[[Record], Mapping[Group, Any]]
    draw: Callable[[Any, Any], Callable[[], None] | None] | None = None
    together: Callable[[Mapping[Group, Any], Sequence[str]], Any] | None = None
    height: Callable[[Any], float] = lambda chart: 3.1
    in_report: bool = True
    topic: str = ""


KINDS: dict[str, ChartKind] = {}


def register(kind: ChartKind) -> None:
    """Add a kind of chart to what `plot`, the command line and the report draw."""
    KINDS[kind.name] = kind


def kinds(comparison: Record) -> tuple[str, ...]:
    """Return the names of the kinds that can be drawn of a comparison."""
    return tuple(name for name, kind in KINDS.items() if kind.find(comparison))


register(
    ChartKind(
        "time",
        "relative to {reference}, longer is better",
        "nothing was compared",
        all_bars,
        together=overview,
        in_report=False,  # Its tables have bars.
    )
)
register(
    ChartKind(
        "memory",
        "memory against time, lower left is better",
        "no group has two programs whose memory is known",
        memory_time.charts,
        points,
    )
)
register(
    ChartKind(
        "roofline",
        "rooflines; nothing ran on compiled targets: their points are bounds",
        "no group has programs with flops, on a target whose ceilings are known",
        roofline.charts,
        points,
    )
)
register(
    ChartKind(
        "density",
        "time against the part of steps that is real, lower is better",
        "no workload was measured at several parts of real steps "
        "(compare(..., valid_fractions=...))",
        density_charts,
        density_lines,
        topic="what padding costs",
    )
)
