"""What a notebook shows of a result: a sentence, tables and a picture, with nothing installed."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.util import find_spec

from tdjax.comparison.rendering.pictures import plot
from tdjax.comparison.verdicts.answers import FASTEST, QUESTIONS
from tdjax.comparison.verdicts.records import Record

_CELL = "padding:3px 12px 3px 0;text-align:left;vertical-align:top"
_CAPTION = "padding-top:1em;text-align:left;font-weight:bold"
_SENTENCE = 24  # Letters: a cell with more is not squeezed into a column of single words.


def of_comparison(comparison: Record) -> str:
    """Return the answers of a comparison; with matplotlib, its chart as well."""
    rows = [("", *QUESTIONS.values())]
    targets = {answer.target for answer in comparison.answers}
    for answer in comparison.answers:
        said = answer.said or {FASTEST: answer.text}
        where = f"{answer.workload} {answer.mode}" + f" on {answer.target}" * (len(targets) > 1)
        rows.append((where, *(said.get(question, "") for question in QUESTIONS)))
    drawn = len(rows) > 1 and find_spec("matplotlib") is not None
    return page(comparison.summary, {"": rows}, plot.svg(comparison) if drawn else None)


def page(said: str, tables: Mapping[str, Sequence[Sequence[str]]], svg: str | None = None) -> str:
    """Return HTML for a cell's output.

    Args:
        said: the sentence above all.
        tables: rows of text by the tables' titles, the first row the headings.
        svg: a picture. As the source of an image it shares no names with the notebook's page.
    """
    parts = [f"<p><b>{escape(said)}</b></p>"]
    for title, (headings, *rows) in tables.items():
        lines = [_row("th", headings), *(_row("td", row) for row in rows)]
        caption = f'<caption style="{_CAPTION}">{escape(title)}</caption>' if title else ""
        table = f"<table>{caption}{''.join(lines)}</table>"
        parts.append(f'<div style="overflow-x:auto">{table}</div>')
    if svg is not None:
        source = base64.b64encode(svg.encode()).decode()
        parts.append(f'<img style="max-width:100%" src="data:image/svg+xml;base64,{source}">')
    return "\n".join(parts)


def _row(tag: str, cells: Sequence[str]) -> str:
    styles = (_CELL + ";min-width:11em" * (len(cell) > _SENTENCE) for cell in cells)
    pairs = zip(styles, map(escape, cells), strict=True)
    return f"<tr>{''.join(f'<{tag} style={style!r}>{cell}</{tag}>' for style, cell in pairs)}</tr>"
