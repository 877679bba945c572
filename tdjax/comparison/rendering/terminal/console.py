"""What all tables for a terminal share, by rich."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from tdjax.comparison.system.extras import need
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Group


class Fitted:
    """What rich prints once it knows how wide the console is."""

    def __init__(self, parts: Callable[[int], Iterator[Any]]) -> None:
        need("rich", "tables")
        self._parts = parts

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        # Names are a user's: a bracket in one is no markup.
        for part in self._parts(options.max_width):
            yield from console.render(part, options.update(markup=False))


def plain(shown: Any, width: int | None = None) -> str:
    """Return what rich prints as text without colors."""
    need("rich", "tables")
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


def new_table(*headings: str, left: int = 1) -> Any:
    """Return an empty table whose first columns are aligned left, the others right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < left else "right", no_wrap=True)
    return table
