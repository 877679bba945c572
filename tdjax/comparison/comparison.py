"""A finished comparison: a record that prints, draws and reports itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tdjax.comparison.system.extras import need
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.records import Record
from tdjax.core import whole_file


@dataclass(frozen=True)
class Comparison(Record):
    """Strategies compared on one or more workloads.

    Printing it gives a table. `rich.print` gives the same with colors, and a notebook shows its
    answers and a chart. Its fields are those of
    `Record`: `entries`, `verdicts`, `reference`, `workloads`, `environment`, `interrupted`,
    `ceilings` and `densities`.
    """

    def __str__(self) -> str:
        from tdjax.comparison.rendering.terminal.console import plain

        return plain(self)

    def __rich__(self) -> Any:
        from tdjax.comparison.rendering.terminal.comparison import renderable

        return renderable(self)

    def _repr_html_(self) -> str:
        from tdjax.comparison.rendering.html.notebook import of_comparison

        return of_comparison(self)

    def to_dataframe(self) -> Any:
        """Return the entries as a pandas data frame, one a row, their fields as columns.

        Raises:
            ImportError: pandas is missing; the message says how to install it.
        """
        need("pandas", "data frames", install="pandas")
        from pandas import DataFrame

        columns = [field.name for field in fields(Entry)]
        return DataFrame([vars(entry) for entry in self.entries], columns=columns)

    def plot(self, path: str | os.PathLike[str], kind: str = "time") -> Path:
        """Draw it with matplotlib: one panel a workload, target and mode.

        Args:
            path: of the file; its suffix (.png, .svg, .pdf) chooses the format.
            kind: "time" (or cycles or bytes, where nothing was measured), "memory" (against
                time), "roofline" (flops a second against flops a byte) or "density" (time against
                the part of steps that is real, with what it would be if padding were free).

        Returns:
            The path.

        Raises:
            ValueError: the kind is unknown, or there is nothing to draw of that kind.
            ImportError: matplotlib is missing; the message says how to install it.
            OSError: the file cannot be written.
        """
        from tdjax.comparison.rendering.pictures.plot import plot

        return plot(self, path, kind)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one HTML file that needs nothing else, not even a network.

        Returns:
            The path.

        Raises:
            ImportError: Jinja2 or matplotlib is missing; the message says how to install it.
            OSError: the file cannot be written.
        """
        from tdjax.comparison.rendering.html.report import html

        return whole_file.write(path, html(self))
