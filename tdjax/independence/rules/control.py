"""Rules for primitives that hold other programs: calls, loops, branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tdjax.core.jaxpr import inner_program, scan_counts
from tdjax.independence.kinds import CONST, STEP, SUM, Kind, NotProvenError, Rows, join
from tdjax.independence.rules.derivatives import check_rules
from tdjax.independence.rules.rule import Follows, Step
from tdjax.independence.two_traces import goes_with_rows

_Result = tuple[list[Kind], tuple[Step, ...]]


def _refuse_step_values(kinds: list[Kind]) -> None:
    if STEP in kinds and any(isinstance(kind, Rows) for kind in kinds):
        raise NotProvenError("takes a value of one step together with rows of many")


def _refuse_sum(kind: Kind, what: str) -> None:
    if kind is SUM:
        raise NotProvenError(f"{what} a sum over all rows, of which each step has a part")


def call(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """Analyze the called program."""
    return analysis.run(inner_program(eqn), kinds)


def custom_derivative(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """Both the function and its derivative rule have to keep rows apart."""
    _refuse_step_values(kinds)
    outputs, _ = analysis.run(inner_program(eqn), kinds)
    check_rules(analysis, eqn, kinds, outputs)
    if STEP in kinds and any(isinstance(kind, Rows) for kind in outputs):
        raise NotProvenError("makes rows from a value of one step")
    return outputs, ()


def linear_solve(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """The solver counts, and the products and transposed solver that differentiate it."""
    _refuse_step_values(kinds)
    programs, counts = eqn.params["jaxprs"], eqn.params["const_lengths"]
    right_sides = kinds[sum(counts) :]
    if STEP in kinds:
        right_sides = [STEP] * len(right_sides)
    start = 0
    for program, count in zip(programs, counts, strict=True):
        consts = kinds[start : start + count]
        start += count
        if program is None:
            continue
        solved, _ = analysis.run(program, [*consts, *right_sides])
        if solved != right_sides and not {*solved, *right_sides} <= {CONST, STEP}:
            raise NotProvenError("solves rows together with something that has none")
    return right_sides, ()


def scan(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """Rows may pass through a loop over another axis; a loop over rows may carry nothing."""
    _refuse_step_values(kinds)
    consts, carry, xs = _split_scan(eqn, kinds)
    if any(isinstance(kind, Rows) and kind.axis == 0 for kind in xs):
        return _scan_over_rows(analysis, eqn, consts, carry, xs), ()
    if goes_with_rows(eqn.params["length"]):
        raise NotProvenError("loops as many times as there are rows")
    inside = [kind.at(kind.axis - 1) if isinstance(kind, Rows) else kind for kind in xs]

    def body(carry: list[Kind]) -> list[Kind]:
        return analysis.run(eqn.params["jaxpr"], [*consts, *carry, *inside])[0]

    carry, outputs = _fixed_point(body, carry)
    stacked = outputs[len(carry) :]
    return [
        *carry,
        *(kind.at(kind.axis + 1) if isinstance(kind, Rows) else kind for kind in stacked),
    ], ()


def _split_scan(eqn: Any, kinds: list[Kind]) -> tuple[list[Kind], list[Kind], list[Kind]]:
    consts, carry = scan_counts(eqn)
    return kinds[:consts], kinds[consts : consts + carry], kinds[consts + carry :]


def _scan_over_rows(
    analysis: Follows, eqn: Any, consts: list[Kind], carry: list[Kind], xs: list[Kind]
) -> list[Kind]:
    rows = set(xs)
    if carry:
        raise NotProvenError("carries something from row to row")
    if len(rows) != 1 or any(kind is not CONST for kind in consts):
        raise NotProvenError("loops over rows with something else at hand")
    if goes_with_rows(eqn.params["jaxpr"]):
        raise NotProvenError("reads the number of rows inside a loop over them")
    return [rows.pop()] * len(eqn.outvars)


def _fixed_point(
    body: Callable[[list[Kind]], list[Kind]], carry: list[Kind]
) -> tuple[list[Kind], list[Kind]]:
    """Return the kinds of a carry that one more turn does not change, and the body's outputs."""
    while True:
        outputs = body(carry)
        after = [join(old, new) for old, new in zip(carry, outputs, strict=False)]
        if after == carry:
            return carry, outputs
        carry = after


def while_loop(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """Rows may go round, all as often, or each as often as it says itself.

    A predicate with axes, which `jax.vmap` makes of a loop, is one loop for each of its elements:
    JAX goes on until all are done, and keeps what belongs to an element as it is once that is done.
    """
    _refuse_step_values(kinds)
    test_count, body_count = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    test_consts = kinds[:test_count]
    body_consts = kinds[test_count : test_count + body_count]

    def body(carry: list[Kind]) -> list[Kind]:
        return analysis.run(eqn.params["body_jaxpr"], [*body_consts, *carry])[0]

    carry, _ = _fixed_point(body, kinds[test_count + body_count :])
    try:
        (again,), _ = analysis.run(eqn.params["cond_jaxpr"], [*test_consts, *carry])
    except NotProvenError as error:
        error.args = (f"{error}, to say whether all go round again: {_LOOP_A_ROW}",)
        raise
    _refuse_sum(again, "goes round as often as it is said by")
    if isinstance(again, Rows) and any(kind != again for kind in carry):
        raise NotProvenError(f"goes round as often as some row says: {_LOOP_A_ROW}")
    if again is STEP and any(isinstance(kind, Rows) for kind in carry):
        raise NotProvenError(f"goes round as often as one step says: {_LOOP_A_ROW}")
    return carry, ()


_LOOP_A_ROW = "`jax.vmap` of the loop, inside the step, lets each row go round as often as it needs"


def cond(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """All rows take the same branch; the branches must leave them in the same places."""
    _refuse_step_values(kinds)
    which, *operands = kinds
    _refuse_sum(which, "chooses a branch by")
    branches = [analysis.run(branch, operands)[0] for branch in eqn.params["branches"]]
    outputs = branches[0]
    for other in branches[1:]:
        outputs = [join(first, second) for first, second in zip(outputs, other, strict=True)]
    if which is STEP:
        if any(isinstance(kind, Rows) for kind in outputs):
            raise NotProvenError("takes the branch that one step says, with rows of many")
        outputs = [STEP] * len(outputs)
    return outputs, ()
