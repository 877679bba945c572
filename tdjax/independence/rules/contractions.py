"""Rules for products: matrices and convolutions."""

from __future__ import annotations

from typing import Any

from tdjax.independence.kinds import CONST, Kind, NotProvenError, Rows
from tdjax.independence.rules.rule import shape_of
from tdjax.independence.sizes import Size


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
    if copy != sides[_side(**eqn.params)]:
        raise NotProvenError("has rows where the copy of a side has none")
    return pushed(eqn, sides)


def pushed(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """It is as the product that it stands for."""
    convolves = "feature_group_count" in eqn.params
    return conv_general_dilated(eqn, kinds) if convolves else dot_general(eqn, kinds)


def _side(side: int, **_: Any) -> int:
    return side


def _free_axis(eqn: Any, side: int, axis: int) -> int:
    contracting, batch = eqn.params["dimension_numbers"]
    taken = set(contracting[side]) | set(batch[side])
    before = sum(other not in taken for other in range(axis))
    if side == 1:
        left_rank = len(shape_of(eqn.invars[0]))
        before += left_rank - len(contracting[0]) - len(batch[0])
    return len(batch[side]) + before


def conv_general_dilated(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Rows are the batch of a convolution, or have kernels of their own.

    `jax.vmap` over kernels merges the rows with the features that come out, and those that go in
    with the rows of the kernels that meet them: then the groups of features are groups of rows. The
    gradient for kernels groups the batch in the same way.
    """
    left, kernel = kinds
    numbers = eqn.params["dimension_numbers"]
    feature_groups = eqn.params["feature_group_count"]
    batch_groups = eqn.params["batch_group_count"]
    batch_in, features_in = numbers.lhs_spec[:2]
    batch_out, features_out = numbers.out_spec[:2]
    if isinstance(left, Rows) and isinstance(kernel, Rows):
        met = {
            features_in: (feature_groups, batch_groups),
            batch_in: (batch_groups, feature_groups),
        }
        groups, others = met.get(left.axis, (1, 1))
        if not isinstance(groups, Size) or others != 1 or kernel.axis != numbers.rhs_spec[0]:
            raise NotProvenError("convolves rows with the kernels of other rows")
        if left.outer != kernel.outer or groups.factor % left.outer:
            raise NotProvenError("convolves in groups that are not those of the rows")
        return [kernel.at(features_out)]
    if isinstance(feature_groups, Size) or isinstance(batch_groups, Size):
        raise NotProvenError("convolves in as many groups as there are rows")
    if isinstance(kernel, Rows):
        if left is not CONST or kernel.axis != numbers.rhs_spec[0]:
            raise NotProvenError("convolves along the rows of kernels")
        if kernel.outer % (feature_groups * batch_groups):
            raise NotProvenError("convolves each row with groups of its own")
        return [kernel.at(features_out)]
    assert isinstance(left, Rows)
    if kernel is not CONST:
        raise NotProvenError("convolves rows of many steps with the kernel of one step")
    if left.axis != batch_in:
        raise NotProvenError("convolves along the rows")
    if left.outer % batch_groups:
        raise NotProvenError("sums groups of rows (batch_group_count)")
    return [Rows(batch_out, left.outer // batch_groups, left.inner)]
