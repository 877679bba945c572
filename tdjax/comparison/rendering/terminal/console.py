"""What all tables for a terminal share, by rich: they fit its width, and no figure is cut off."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Group

_GAP = 3
_NAME = 18


class Fitted:
    """What rich prints once it knows how wide the console is."""

    def __init__(self, parts: Callable[[int], Iterator[Any]]) -> None:
        self._parts = parts

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        # Names are a user's: a bracket in one is no markup.
        for part in self._parts(options.max_width):
            yield from console.render(part, options.update(markup=False))


def plain(shown: Any, width: int | None = None) -> str:
    """Return what rich prints as text without colors."""
    from rich.console import Console

    width = width or shutil.get_terminal_size((100, 24)).columns
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, legacy_windows=False)
    console.print(shown)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def heading(group: Group, about: str | None) -> Any:
    """Return what stands above a group's table."""
    from rich.text import Text

    what = f", {naming.MODE_TITLES[group.mode]}, {group.evidence} on {group.target}"
    return Text.assemble((group.workload, "bold"), what, (f": {about}" if about else "", "dim"))


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its heading.
        cells: one a row.
        spare: in which order columns are left out where room is short, the highest first; one
            with 0 never is.
        names: whether it holds names: they are aligned left, and wrap at spaces.
    """

    title: str
    cells: Sequence[str]
    spare: int = 0
    names: bool = False

    @property
    def width(self) -> int:
        """The letters of its widest cell."""
        return max(map(len, (self.title, *self.cells)))

    @property
    def least(self) -> int:
        """The letters that it needs at least."""
        if not self.names:
            return self.width
        return max(len(word) for text in (self.title, *self.cells) for word in text.split() or "-")

    @property
    def wish(self) -> int:
        """The letters that it gets before a column is spared for it."""
        return max(self.least, min(self.width, _NAME))


def table(
    columns: Sequence[Column],
    width: int,
    styles: Sequence[str | None] = (),
    cell_styles: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """Return a table that fits a width: without columns that can be spared, with names wrapped.

    Args:
        columns: from the left.
        width: the letters of a line.
        styles: one a row.
        cell_styles: one a row for cells of single columns, by the column's title.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = list(columns)
    while _sum(shown, [c.wish for c in shown]) > width and any(c.spare for c in shown):
        shown.remove(max(shown, key=lambda column: column.spare))
    widths = [column.least for column in shown]
    for wanted in ("wish", "width"):  # What is left over is for names.
        for place, column in enumerate(shown):
            room = max(width - _sum(shown, widths), 0)
            widths[place] += min(getattr(column, wanted) - widths[place], room)
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for column, most in zip(shown, widths, strict=True):
        made.add_column(column.title, width=most, overflow="fold")
        made.columns[-1].justify = "left" if column.names else "right"
    cell_styles = cell_styles or {}
    for place, row in enumerate(zip(*(column.cells for column in shown), strict=True)):
        cells = [
            Text(cell, style=cell_styles[column.title][place]) if column.title in cell_styles
            else Text(cell)
            for column, cell in zip(shown, row, strict=True)
        ]  # fmt: skip
        made.add_row(*cells, style=styles[place] if styles else None)
    return made


def labeled(rows: Sequence[tuple[str, Any]]) -> Any:
    """Return texts, each beside its label."""
    from rich.padding import Padding
    from rich.table import Table

    label = max((len(name) for name, _ in rows), default=0)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", width=label)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return Padding(grid, (0, 0, 0, 2), expand=False)


def _sum(columns: Sequence[Column], widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(columns) - 1)
