"""Rules for what treats every element alone."""

from __future__ import annotations

from typing import Any

from tdjax.independence.kinds import STEP, Kind, NotProvenError, Rows
from tdjax.independence.rules.rule import every_output, same_rows, shape_of


def _goes_with_every_row(shape: tuple, rows: Rows) -> bool:
    """Say whether an array is one value along the rows, as attention's dropout is."""
    return rows == Rows(rows.axis) and shape[rows.axis] == 1


def elementwise(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Outputs lie where the inputs lie; scalars go with every row."""
    rows = same_rows(kinds)
    for atom, kind in zip(eqn.invars, kinds, strict=True):
        if kind is STEP and shape_of(atom) and not _goes_with_every_row(shape_of(atom), rows):
            raise NotProvenError("gives every step its own array, which a fold cannot share out")
    if eqn.primitive.name in ("optimization_barrier", "device_put"):
        return list(kinds)
    return every_output(eqn, rows)
