"""Sums over rows, as gradients of shared arrays are.

A sum over all rows is the sum over steps of sums over their rows: what is linear in it stays so.
Only inside a derivative rule may such a sum appear.
"""

from __future__ import annotations

from typing import Any

from tdjax.independence.kinds import CONST, SUM, Kind, NotProvenError, Rows
from tdjax.independence.rules.rule import every_output

_LINEAR = frozenset(
    [
        "broadcast_in_dim",
        "convert_element_type",
        "copy",
        "copy_p",
        "expand_dims",
        "neg",
        "reduce_sum",
        "reshape",
        "rev",
        "slice",
        "squeeze",
        "transpose",
    ]
)
_ADDITIVE = frozenset(["add", "add_any", "sub"])
_BILINEAR = frozenset(["dot_general", "mul"])


def makes_sum(eqn: Any, kinds: list[Kind]) -> bool:
    """Say whether an equation sums over all rows: by itself, or as a product of rows with rows."""
    if not kinds or not isinstance(first := kinds[0], Rows):
        return False
    if eqn.primitive.name == "reduce_sum":
        return first.axis in eqn.params["axes"]
    if eqn.primitive.name != "dot_general" or not isinstance(second := kinds[1], Rows):
        return False
    (left, right), _ = eqn.params["dimension_numbers"]
    pairs = set(zip(left, right, strict=True))
    return first.at(0) == second.at(0) and (first.axis, second.axis) in pairs


def of_sums(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Return the kinds of what is made from sums over rows, if it is linear in them."""
    name, rest = eqn.primitive.name, [kind for kind in kinds if kind is not SUM]
    linear = name in _LINEAR and len(kinds) == 1
    additive = name in _ADDITIVE and not rest
    bilinear = name in _BILINEAR and rest == [CONST]
    quotient = name == "div" and kinds == [SUM, CONST]
    if linear or additive or bilinear or quotient:
        return every_output(eqn, SUM)
    raise NotProvenError("does not treat every row's part of a sum alike")
