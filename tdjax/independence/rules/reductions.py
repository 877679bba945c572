"""Rules for what runs along an axis: reductions, scans of sums, windows, sorts."""

from __future__ import annotations

from typing import Any

from tdjax.independence.kinds import CONST, Kind, NotProvenError, Rows
from tdjax.independence.rules.rule import every_output, keep_off, same_rows, shape_of


def reduction(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Axes other than the rows may be reduced."""
    rows = same_rows(kinds)
    axes = eqn.params["dimensions"] if eqn.primitive.name == "reduce" else eqn.params["axes"]
    for atom, kind in zip(eqn.invars, kinds, strict=True):
        if kind != rows and (kind is not CONST or shape_of(atom)):
            raise NotProvenError("reduces rows together with a value that has none")
    keep_off(rows, axes, "reduces over the rows")
    return every_output(eqn, rows.at(rows.axis - sum(axis < rows.axis for axis in axes)))


def cumulative(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Sums may run along axes other than the rows."""
    rows = same_rows(kinds)
    keep_off(rows, (eqn.params["axis"],), "accumulates along the rows")
    return [rows]


def sort(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Each row may be sorted in itself."""
    rows = same_rows(kinds)
    if any(kind != rows for kind in kinds):
        raise NotProvenError("sorts rows together with a value that has none")
    keep_off(rows, (eqn.params["dimension"],), "sorts along the rows")
    return every_output(eqn, rows)


def top_k(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Each row may give its largest elements."""
    rows = same_rows(kinds)
    last = len(shape_of(eqn.invars[0])) - 1
    axis = eqn.params.get("axis", eqn.params.get("reduction_dimension", last))
    keep_off(rows, (axis % (last + 1),), "picks the largest of the rows")
    return every_output(eqn, rows)


def reduce_window(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Windows may slide along axes other than the rows."""
    rows = same_rows(kinds)
    for atom, kind in zip(eqn.invars, kinds, strict=True):
        if kind != rows and (kind is not CONST or shape_of(atom)):
            raise NotProvenError("slides windows over rows together with a value that has none")
    _window_keeps_off(eqn, rows)
    return every_output(eqn, rows)


def select_in_window(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """The gradients of pooling: windows that slide along axes other than the rows."""
    rows = same_rows(kinds)
    if any(kind != rows for kind in kinds):
        raise NotProvenError("slides windows over rows together with a value that has none")
    _window_keeps_off(eqn, rows)
    return every_output(eqn, rows)


def _window_keeps_off(eqn: Any, rows: Rows) -> None:
    neutral = {
        "window_dimensions": 1,
        "window_strides": 1,
        "padding": (0, 0),
        "base_dilation": 1,
        "window_dilation": 1,
    }
    for name, value in neutral.items():
        given = eqn.params.get(name)
        if given is not None and given[rows.axis] != value:
            raise NotProvenError("slides windows along the rows")


def fft(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Each row may be transformed in itself."""
    rows = same_rows(kinds)
    rank, transformed = len(shape_of(eqn.invars[0])), len(eqn.params["fft_lengths"])
    keep_off(rows, range(rank - transformed, rank), "transforms along the rows")
    return [rows]


_VECTORS = ("lu_pivots_to_permutation", "tridiagonal_solve")
"""Operations on matrices whose first input holds vectors."""


def matrices(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Each row may hold matrices, and what belongs to them; the rows themselves are no matrix."""
    rows = same_rows(kinds)
    core = 1 if eqn.primitive.name in _VECTORS else 2
    rank = len(shape_of(eqn.invars[0]))
    if any(kind != rows for kind in kinds):
        raise NotProvenError(
            "takes matrices of the rows together with an array that all rows share (`jax.vmap` "
            "inside the step gives every row its own)"
        )
    # All inputs and outputs have the same batch axes in front; what comes after them is a matrix.
    keep_off(rows, range(rank - core, rank), "takes the rows for a matrix")
    return every_output(eqn, rows)


def linear_system(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Each row may hold a system of equations, or a right-hand side of one that all share.

    Of `a @ x = b` every column of `b` is solved alone, and of `x @ a = b` every row of it.
    """
    rows = same_rows(kinds)
    *system, _ = kinds
    rank = len(shape_of(eqn.invars[-1]))
    alone = rank - 1 if eqn.params.get("left_side", True) else rank - 2
    if all(kind is CONST for kind in system) and rows.axis == alone:
        return [rows]
    return matrices(eqn, kinds)
