"""Rules for keys and noise, where the keys themselves have rows (one key a row)."""

from __future__ import annotations

from typing import Any

from tdjax.independence.kinds import Kind, NotProvenError
from tdjax.independence.rules.rule import every_output, same_rows, shape_of


def noise_per_row(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Every key gives its own bits, on axes that follow the keys' axes."""
    return every_output(eqn, same_rows(kinds))


def wrap(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """The last axes of the words make a key; the rows must lie before them."""
    rows = same_rows(kinds)
    if rows.axis >= len(shape_of(eqn.outvars[0])):
        raise NotProvenError("takes the rows for the words of a key")
    return [rows]
