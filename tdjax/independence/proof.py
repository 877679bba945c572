"""Proves a call: two traces read as one program, and rules that follow its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax

from tdjax.core.arrays import is_symbolic
from tdjax.core.call import Call, Program, trace
from tdjax.core.fingerprint import lasting
from tdjax.core.jaxpr import all_equations, has_custom_rules
from tdjax.core.recent import Recent
from tdjax.core.sites import somebody_listens
from tdjax.independence.analysis import Analysis, ObstacleError
from tdjax.independence.kinds import CONST, STEP, Kind, NotProvenError, Rows
from tdjax.independence.result import Proof, Proven
from tdjax.independence.rules.rule import Step
from tdjax.independence.two_traces import Merged

_PACKED_WITHIN = (
    'a call inside it has strategy="packed", which puts the rows that its mask keeps first, '
    "whatever step they are of, and the proof does not follow them there"
)


def prove(call: Call, rows: Any, settled: bool = False) -> Proven:
    """Return the proof that the rows of a call are independent, or why there is none.

    `fun` is traced on one step's batch, which is the loop, and on `rows` rows, which is what will
    run. A proof is remembered under the loop's program, never under the function, which may do
    something else at its next call.

    Args:
        call: what is called.
        rows: the number of rows that will run at once.
        settled: be content with an earlier failure for the same loop. Another function may have
            failed there, which did something else on the rows of a fold: good enough for a choice,
            not for a refusal.
    """
    if call.proven is not None and call.proven.block.rows == rows != call.batch:
        found: Proven = call.proven
        return found
    step = trace(call, call.batch)
    memorable = _memorable(call, step)
    known = _recall(call, step, rows) if memorable else None
    if known is not None and not somebody_listens():  # what lies within is told in a trace
        return known
    reason = _failures.get(_key(call, step, rows)) if memorable and settled else None
    if known is None and reason is not None:
        return _failed(reason, call, step)
    found = _attempt(call, step, rows)
    if not found.proof.independent:
        # A shared array may lead with the batch: then its rows go with the rows of the fold.
        attempts = (_attempt(spread, step, rows) for spread in call.with_spread())
        found = next((again for again in attempts if again.proof.independent), found)
    if memorable:
        _remember(call, found, rows)
    return found


def prove_for_blocks(call: Call, rows: Any, settled: bool = False) -> Proven:
    """Return the proof for blocks of `rows` rows, or of two where one alone is another program.

    JAX leaves out axes of size one: a batched product or `take_along_axis` of one row has other
    operations than that of many, and the two cannot be compared. Then two rows are taken at once.

    Args:
        call, rows, settled: as in `prove`.
    """
    found = prove(call, rows, settled)
    if found.proof.independent or is_symbolic(rows) or rows != 1:
        return found
    two = prove(call, 2, settled)
    return two if two.proof.independent else found


def _attempt(call: Call, step: Program, rows: Any) -> Proven:
    if not any(call.has_rows()):
        return _failed("no argument has both time and batch", call, step)
    # On as many rows as the batch has, nothing would show which sizes are rows.
    other = rows if rows != call.batch else call.batch * 2 + 1
    try:
        block = trace(call, other)
    except Exception as error:  # whatever the function raises, it has not been proven
        reason = (
            f"it cannot be traced on a batch of another size, {other} rows: {_first_line(error)} "
            f"(an array with a batch axis must be an argument, with None in in_axes if all steps "
            f"share it)"
        )
        return _failed(reason, call, step)
    kinds: dict[str, Kind] = {"rows": Rows(0), "spread": Rows(0), "step": STEP, "shared": CONST}
    try:
        merged = Merged(step, block, call.batch, other)
        outputs, steps = Analysis().prove(merged, [kinds[role] for role in call.roles])
    except (ObstacleError, NotProvenError) as error:
        reason = str(error) if isinstance(error, ObstacleError) else f"the function {error}"
        reason = _PACKED_WITHIN if _packs(step) else reason
        return Proven(Proof(False, reason, call.roles), step, block)
    proven = Proven(Proof(True, "", call.roles, tuple(outputs), steps), step, block)
    return proven if other == rows else on_own_rows(proven)


def on_own_rows(proven: Proven) -> Proven:
    """Return what a proof says of as many rows as a step has: its own trace is one of the two.

    A trace on one row lacks what changes nothing there. Where every equation is looked at, for
    values of one step or shared ones, it is not the program that the proof has followed.
    """
    proof = proven.proof
    looked_at = "step" in proof.roles or not all(isinstance(kind, Rows) for kind in proof.outputs)
    if looked_at and _lacks_any(proof.steps or ()):
        reason = "one row alone is another program than many"
        return Proven(Proof(False, reason, proof.roles), proven.step, proven.block)
    return dataclasses.replace(proven, block=proven.step)


def _lacks_any(steps: Iterable[Step]) -> bool:
    return any(step.eqn.small is None or any(map(_lacks_any, step.inner)) for step in steps)


def _packs(step: Program) -> bool:
    return any(eqn.primitive.name == "tdjax_row_loop" for eqn in all_equations(step.jaxpr.bare))


def _failed(reason: str, call: Call, step: Program) -> Proven:
    return Proven(Proof(False, reason, call.roles), step, None)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0].rstrip('.')}" if text else type(error).__name__


_known: Recent[tuple[Proof, Program, Callable[[], bool]]] = Recent()
_failures: Recent[str] = Recent()


def _key(call: Call, step: Program, rows: Any) -> Any:
    # A trace holds the mesh that it was made in, and cannot be evaluated in another.
    return step.key and (step.key, call.roles, call.batch, rows, jax.sharding.get_abstract_mesh())


def _memorable(call: Call, step: Program) -> bool:
    """Say whether a program's key tells all there is to know of it.

    A derivative rule does not show in the key, so one that has any is only recalled where nothing
    can be differentiated.
    """
    return not (call.is_differentiable(step) and has_custom_rules(step))


def _recall(call: Call, step: Program, rows: Any) -> Proven | None:
    """Return what was proven of the same loop before, with the constants of now."""
    entry = _known.get(_key(call, step, rows))
    if entry is None:
        return None
    proof, block, is_as_it_was = entry
    if not is_as_it_was():
        return None
    block = dataclasses.replace(block, consts=step.consts, out_tree=step.out_tree)
    return Proven(proof, step, block)


def _remember(call: Call, found: Proven, rows: Any) -> None:
    key = _key(call, found.step, rows)
    if key is None:
        return
    if not found.proof.independent or found.block is None:
        _failures.keep(key, found.proof.reason)
        return
    block = dataclasses.replace(found.block, consts=())
    is_as_it_was = lasting(block)
    if is_as_it_was is not None:
        _known.keep(key, (found.proof, block, is_as_it_was))
