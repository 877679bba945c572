"""Sums over rows, as gradients of shared arrays are.

A sum over all rows is the sum over steps of sums over their rows: what is linear in it stays so.
Only inside a derivative rule may such a sum appear.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from tdjax.independence.kinds import CONST, SUM, Kind, NotProvenError, Rows
from tdjax.independence.rules.rule import Traits, every_output, shape_of


def makes_sum(eqn: Any, kinds: list[Kind]) -> bool:
    """Say whether an equation sums over all rows.

    By itself, as a product of rows with rows, or by adding each to a shared array where it says. In
    that array must be zeros: whether a rule gives zero for zero is asked of every sum as well.
    """
    if eqn.primitive.name == "scatter-add":
        return _adds_rows_up(eqn, kinds)
    if not kinds or not isinstance(first := kinds[0], Rows):
        return False
    if eqn.primitive.name == "reduce_sum":
        return first.axis in eqn.params["axes"]
    if eqn.primitive.name != "dot_general" or not isinstance(second := kinds[1], Rows):
        return False
    (left, right), _ = eqn.params["dimension_numbers"]
    pairs = set(zip(left, right, strict=True))
    return first.at(0) == second.at(0) and (first.axis, second.axis) in pairs


def _adds_rows_up(eqn: Any, kinds: list[Kind]) -> bool:
    total, indices, updates = kinds
    if total is not CONST or type(indices) is not Rows or type(updates) is not Rows:
        return False
    numbers = eqn.params["dimension_numbers"]
    if indices.axis == len(shape_of(eqn.invars[1])) - 1:
        return False
    if eqn.params["unique_indices"] or eqn.params["indices_are_sorted"]:
        return False  # those of one step are, not those of all
    if indices.axis in numbers.scatter_indices_batching_dims:
        return False
    places = range(len(shape_of(eqn.invars[2])))
    each = [axis for axis in places if axis not in numbers.update_window_dims]
    return updates == indices.at(each[indices.axis])


def of_sums(eqn: Any, kinds: list[Kind], traits: Traits) -> list[Kind]:
    """Return the kinds of what is made from sums over rows, if it is linear in them.

    Whole numbers are not: `round(a) + round(b)` is not `round(a + b)`. A choice between a sum and a
    constant, `where(s > 0, g, 0)`, is linear if the constant is zero: whether it is zero where what
    is summed is zero is asked of every sum as well.
    """
    rest = [kind for kind in kinds if kind is not SUM]
    summed = [atom for atom, kind in zip(eqn.invars, kinds, strict=True) if kind is SUM]
    numbers = [atom.aval.dtype for atom in (*summed, *eqn.outvars)]
    fits = {
        None: False,
        "linear": len(kinds) == 1,
        "additive": not rest,
        "bilinear": rest == [CONST],
        "first": kinds[0] is SUM and all(kind is CONST for kind in kinds[1:]),
        "quotient": kinds == [SUM, CONST],
        "solution": kinds[-1] is SUM and all(kind is CONST for kind in kinds[:-1]),
        "choice": kinds[0] is CONST and all(kind is CONST for kind in rest),
    }[traits.sums]
    if fits and all(jnp.issubdtype(dtype, jnp.inexact) for dtype in numbers):
        return every_output(eqn, SUM)
    raise NotProvenError("does not treat every row's part of a sum alike")
