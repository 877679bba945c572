"""Rules for products: matrices and convolutions."""

from __future__ import annotations

from typing import Any

from tdjax.independence.kinds import CONST, Kind, NotProvenError, Rows
from tdjax.independence.rules.rule import shape_of


def dot_general(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Rows may be a batch axis of both sides, or a free axis of one side whose other is shared."""
    contracting, batch = eqn.params["dimension_numbers"]
    left, right = kinds
    if isinstance(left, Rows) and isinstance(right, Rows):
        pairs = list(zip(*batch, strict=True))
        if (left.axis, right.axis) not in pairs or left.at(0) != right.at(0):
            raise NotProvenError("multiplies rows with other rows")
        return [left.at(pairs.index((left.axis, right.axis)))]
    side = 0 if isinstance(left, Rows) else 1
    rows, other = (left, right) if side == 0 else (right, left)
    assert isinstance(rows, Rows)
    if other is not CONST:
        raise NotProvenError("multiplies rows of many steps with a matrix of one step")
    if rows.axis in contracting[side]:
        raise NotProvenError("sums over the rows")
    if rows.axis in batch[side]:
        raise NotProvenError("pairs the rows with an axis of a shared array")
    return [rows.at(_free_axis(eqn, side, rows.axis))]


def product(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """The copy of one side, as third input, is as that side is."""
    *sides, copy = kinds
    if copy != sides[eqn.params["side"]]:
        raise NotProvenError("has rows where the copy of a side has none")
    return pushed(eqn, sides)


def pushed(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """It is as the product that it stands for."""
    is_dot = eqn.params["operation"].name == "dot_general"
    return dot_general(eqn, kinds) if is_dot else conv_general_dilated(eqn, kinds)


def _free_axis(eqn: Any, side: int, axis: int) -> int:
    contracting, batch = eqn.params["dimension_numbers"]
    taken = set(contracting[side]) | set(batch[side])
    before = sum(other not in taken for other in range(axis))
    if side == 1:
        left_rank = len(shape_of(eqn.invars[0]))
        before += left_rank - len(contracting[0]) - len(batch[0])
    return len(batch[side]) + before


def conv_general_dilated(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Rows are the batch of a convolution whose kernel is shared, groups or not."""
    rows, kernel = kinds
    numbers = eqn.params["dimension_numbers"]
    if not isinstance(rows, Rows) or kernel is not CONST:
        raise NotProvenError("convolves with a kernel that is not shared by all rows")
    if rows.axis != numbers.lhs_spec[0]:
        raise NotProvenError("convolves along the rows")
    if eqn.params["batch_group_count"] != 1:
        raise NotProvenError("sums groups of rows (batch_group_count)")
    return [rows.at(numbers.out_spec[0])]
