"""Rules for primitives that hold other programs: calls, loops, branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tdjax.core.jaxpr import inner_program, is_literal, scan_counts
from tdjax.independence.kinds import CONST, STEP, SUM, Kind, NotProvenError, Rows, join
from tdjax.independence.rules.derivatives import check_rules, check_rules_by_row
from tdjax.independence.rules.rule import (
    Follows,
    Form,
    Inner,
    Step,
    every_output,
    same_rows,
    traits_of,
)
from tdjax.independence.two_traces import goes_with_rows

_Result = tuple[list[Kind], Inner]


def _has_rows(kinds: Sequence[Kind]) -> bool:
    return any(isinstance(kind, Rows) for kind in kinds)


def _result(kinds: Sequence[Kind], outputs: list[Kind], inner: Inner) -> _Result:
    """Return what a loop or branch gives, with what is inside if steps have values there.

    Without rows it is computed as one, once a step: then all that it gives is a step's own.
    """
    if STEP not in kinds:
        return outputs, ()
    if not _has_rows((*kinds, *outputs)):
        outputs = [STEP if kind is CONST else kind for kind in outputs]
    return outputs, inner


def _refuse_step_values(kinds: list[Kind], what: str = "") -> None:
    if STEP in kinds and _has_rows(kinds):
        raise NotProvenError(f"takes a value of one step together with rows of many{what}")


def _refuse_sum(kind: Kind, what: str) -> None:
    if kind is SUM:
        raise NotProvenError(f"{what} a sum over all rows, of which each step has a part")


def call(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """Analyze the called program."""
    outputs, steps = analysis.run(inner_program(eqn), kinds)
    return outputs, (steps,)


def custom_derivative(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """Both the function and its derivative rule have to keep rows apart."""
    _refuse_step_values(kinds, " (broadcast it to the rows before the call)")
    outputs, _ = analysis.run(inner_program(eqn), kinds)
    check_rules(analysis, eqn, kinds, outputs)
    if STEP in kinds and _has_rows(outputs):
        raise NotProvenError("makes rows from a value of one step")
    return _result(kinds, outputs, ())


def high_level(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """What an operation becomes when it is compiled has to keep rows apart, and its derivatives."""
    if eqn.large.effects:
        raise NotProvenError("has effects")
    return custom_derivative(analysis, eqn, kinds)


def linear_solve(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """The solver counts, and the products and transposed solver that differentiate it.

    Without rows, a fold calls the transposed solver once, with the sum of all cotangents: it has to
    be linear, as that of a few turns of conjugate gradients is not.
    """
    _refuse_step_values(kinds, " (broadcast it to the rows before the call)")
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
    if programs.transpose_solve is not None and all(kind is CONST for kind in kinds):
        sums: list[Kind] = [SUM] * len(right_sides)
        try:
            solved, _ = analysis.inside(sums=True).run(
                programs.transpose_solve, [*kinds[start - count : start], *sums]
            )
        except NotProvenError as error:
            raise NotProvenError(f"is transposed by a solver, in which {error}") from None
        if solved != sums:
            raise NotProvenError("is transposed by a solver that gives something else than a sum")
    return right_sides, ()


def scan(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """Rows may pass through a loop over another axis; a loop over rows may carry nothing."""
    consts, carry, xs = _split_scan(eqn, kinds)
    if any(isinstance(kind, Rows) and kind.axis == 0 for kind in xs):
        return _scan_over_rows(analysis, eqn, consts, carry, xs), ()
    if goes_with_rows(eqn.params["length"]):
        raise NotProvenError(
            "loops as many times as there are rows (`jax.vmap` in place of the loop treats each "
            "of them alike)"
        )
    inside = [kind.at(kind.axis - 1) if isinstance(kind, Rows) else kind for kind in xs]

    def body(carry: list[Kind]) -> tuple[list[Kind], tuple[Step, ...]]:
        return analysis.run(eqn.params["jaxpr"], [*consts, *carry, *inside])

    carry, outputs, steps = _fixed_point(body, carry)
    stacked = outputs[len(carry) :]
    outputs = [
        *carry,
        *(kind.at(kind.axis + 1) if isinstance(kind, Rows) else kind for kind in stacked),
    ]
    return _result(kinds, outputs, (steps,))


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
        raise NotProvenError(
            "loops over rows with something at hand that is not the same for all of them "
            "(`jax.vmap` in place of the loop treats each of them alike)"
        )
    if goes_with_rows(eqn.params["jaxpr"]):
        raise NotProvenError("reads the number of rows inside a loop over them")
    check_rules_by_row(eqn.large.params["jaxpr"])
    return [rows.pop()] * len(eqn.outvars)


def _fixed_point(
    body: Callable[[list[Kind]], tuple[list[Kind], tuple[Step, ...]]], carry: list[Kind]
) -> tuple[list[Kind], list[Kind], tuple[Step, ...]]:
    """Return the kinds of a carry that one more turn does not change, and that turn."""
    while True:
        outputs, steps = body(carry)
        after = [join(old, new) for old, new in zip(carry, outputs, strict=False)]
        if after == carry:
            return carry, outputs, steps
        carry = after


_LOOP_A_ROW = "`jax.vmap` of the loop, inside the step, lets each row go round as often as it needs"


def while_loop(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """Rows may go round, all as often, or each as often as it says itself.

    A predicate with axes, which `jax.vmap` makes of a loop, is one loop for each of its elements:
    JAX goes on until all are done, and keeps what belongs to an element as it is once that is done.
    """
    test_count, body_count = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    test_consts = kinds[:test_count]
    body_consts = kinds[test_count : test_count + body_count]
    test_program, body_program = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]

    def body(carry: list[Kind]) -> tuple[list[Kind], tuple[Step, ...]]:
        return analysis.run(body_program, [*body_consts, *carry])

    carry, _, turn = _fixed_point(body, kinds[test_count + body_count :])
    try:
        (again,), test = analysis.run(test_program, [*test_consts, *carry])
    except NotProvenError as error:
        error.args = (f"{error}, to say whether all go round again: {_LOOP_A_ROW}",)
        raise
    _refuse_sum(again, "goes round as often as it is said by")
    if isinstance(again, Rows) and any(kind != again for kind in carry):
        raise NotProvenError(f"goes round as often as some row says: {_LOOP_A_ROW}")
    if STEP in kinds and _has_rows((*kinds, *carry)):
        if again is STEP:
            raise NotProvenError(
                "goes round as often as one step says, with rows of many (broadcast the number "
                f"to the rows: {_LOOP_A_ROW})"
            )
        if STEP in carry:
            raise NotProvenError(f"carries a value of one step, together with rows: {_KNOWN_TURNS}")
        _check_same_in_every_turn(test_program, test, test_count)
        _check_same_in_every_turn(body_program, turn, body_count)
    return _result(kinds, carry, (test, turn))


_KNOWN_TURNS = (
    "what it is in each turn is laid out by row before the loop, so their number must be known "
    "(`jax.lax.scan`, or `jax.lax.fori_loop` with numbers for bounds), or each row have its own"
)


def _check_same_in_every_turn(program: Any, steps: Sequence[Step], consts: int) -> None:
    """Demand that what a step has for its rows does not change while they go round.

    Args:
        program: what a turn computes.
        steps: its equations.
        consts: how many of its inputs are the same in every turn.
    """
    _check_known(steps, {atom.variable for atom in (*program.constvars, *program.invars[:consts])})


def _check_known(steps: Sequence[Step], known: set[Any]) -> None:
    for step in steps:
        eqn, rows = step.eqn, _has_rows((*step.inputs, *step.outputs))
        given = [is_literal(atom) or atom.variable in known for atom in eqn.invars]
        if not rows and all(given):
            known.update(atom.variable for atom in eqn.outvars)
        traits = traits_of(eqn.primitive)
        if traits.form in (Form.CALL, Form.REMAT):
            called = inner_program(eqn)
            inside = [atom for atom, same in zip(called.invars, given, strict=True) if same]
            within = {atom.variable for atom in (*called.constvars, *inside)}
            _check_known(step.inner[0], within)
        elif STEP in step.inputs and rows:
            stepped = (same for kind, same in zip(step.inputs, given, strict=True) if kind is STEP)
            if traits.nested is not None or traits.draws or not all(stepped):
                raise NotProvenError(
                    f"has `{eqn.primitive.name}` of a step's value: {_KNOWN_TURNS}"
                )


def cond(analysis: Follows, eqn: Any, kinds: list[Kind]) -> _Result:
    """All rows of a step take the same branch; branches must leave them in the same places."""
    which, *operands = kinds
    _refuse_sum(which, "chooses a branch by")
    outputs: list[Kind] = []
    inner = []
    for branch in eqn.params["branches"]:
        found, steps = analysis.run(branch, operands)
        outputs = [join(*pair) for pair in zip(outputs or found, found, strict=True)]
        inner.append(steps)
    if which is STEP:
        outputs = [kind if isinstance(kind, Rows) else STEP for kind in outputs]
    if STEP in kinds and _has_rows((*kinds, *outputs)):
        if eqn.params.get("branches_platforms") is not None:
            raise NotProvenError("takes another branch on another kind of device")
        if which is STEP and eqn.large.effects:
            raise NotProvenError("has effects in a branch that one step takes and another does not")
    return _result(kinds, outputs, tuple(inner))


def callback(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """A function on the host keeps rows apart if it is written for one, and takes many at once.

    That is its own word: nothing is known of what it does. Its leading axis is a batch to it only
    where `jax.vmap` has put it there.
    """
    vectorized = eqn.params.get("vmap_method") in ("expand_dims", "broadcast_all")
    rows = same_rows(kinds)
    if rows.axis != 0 or STEP in kinds or not vectorized or not eqn.params["vmapped"]:
        raise NotProvenError(
            "calls a function on the host, of which nothing is known: `jax.vmap` of the call, "
            'inside the step, with vmap_method="expand_dims" or "broadcast_all", says that it '
            "takes rows and keeps them apart"
        )
    return every_output(eqn, rows)
