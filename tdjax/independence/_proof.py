"""Proves a call: symbolic trace, rules, and the same program in the trace that runs."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

from tdjax._call import Call, Program, trace
from tdjax._symbolic import fresh_rows
from tdjax.independence import (  # noqa: F401 - the imports fill the table of rules
    _contractions,
    _control,
    _elementwise,
    _indexing,
    _random,
    _reductions,
    _shapes,
)
from tdjax.independence._analysis import Analysis, Step
from tdjax.independence._kinds import CONST, STEP, Kind, NotProvenError, Rows
from tdjax.independence._same import Comparison


@dataclasses.dataclass(frozen=True, eq=False)
class Proof:
    """What is known about the rows of a step function.

    Attributes:
        independent: output row i depends on input row i alone, whatever the number of rows.
        reason: if not, the operation that stands in the way, with its source line.
        roles: what each leaf means to a step, where the proof had to find that out.
        outputs: for each output, where its rows are.
        steps: every equation, with where the rows of its inputs and outputs are.
    """

    independent: bool
    reason: str
    roles: tuple[str, ...]
    outputs: tuple[Kind, ...] = ()
    steps: tuple[Step, ...] = ()
    symbol: Any = None
    untraceable: bool = False


_KEPT = 256
_proofs: collections.OrderedDict[Any, Proof] = collections.OrderedDict()


def prove(call: Call, rows: Any) -> tuple[Program | None, Proof]:
    """Return the step traced on `rows` rows, and the proof that they are independent.

    There are two traces: one with a symbolic number of rows, which the rules follow, and the one that
    will run, which must be the same program. A proof is remembered under that program, never under
    the function, which may do something else at its next call.

    Args:
        call: what is called.
        rows: the number of rows that will run at once.

    Returns:
        The trace, None where the proof failed before it was needed; and the proof.
    """
    hint = call.memory.get((call.axes, call.roles))
    program = _trace_as_before(call, rows, hint) if hint else None
    if program is not None and (proof := _recall(program, hint)):
        return program, proof
    symbolic, proof = _draft(call)
    if symbolic is None:
        return None, proof
    if program is None or hint != proof.roles:
        program = trace(dataclasses.replace(call, roles=proof.roles), rows)
    known = _recall(program, proof.roles)
    if known is None:
        known = _confirm(proof, symbolic, program)
        _remember(program, proof.roles, known)
    if known.independent:
        call.memory[call.axes, call.roles] = known.roles
    return program, known


def _trace_as_before(call: Call, rows: Any, roles: Any) -> Program | None:
    try:
        return trace(dataclasses.replace(call, roles=roles), rows)
    except Exception:  # the function has changed since; the proof will say what is the matter
        return None


def _draft(call: Call) -> tuple[Program | None, Proof]:
    """Trace the step with a symbolic number of rows and follow them through its operations."""
    symbolic, proof = _attempt(call)
    spread = call.with_spread()
    if proof.untraceable and spread.roles != call.roles:
        again, second = _attempt(spread)
        if second.independent:
            return again, second
    return symbolic, proof


def _attempt(call: Call) -> tuple[Program | None, Proof]:
    if not set(call.roles) & {"rows", "spread"}:
        return None, Proof(False, "no argument has both time and batch", call.roles)
    symbol = fresh_rows([leaf.shape for leaf in call.leaves])
    try:
        symbolic = trace(call, symbol)
    except Exception as error:  # whatever the function raises, it has not been proven
        reason = f"it cannot be traced for a batch of any size: {_first_line(error)}"
        return None, Proof(False, reason, call.roles, untraceable=True)
    kinds: dict[str, Kind] = {"rows": Rows(0), "spread": Rows(0), "step": STEP, "shared": CONST}
    try:
        outputs, steps = Analysis(symbol).run(
            symbolic.jaxpr,
            [CONST] * len(symbolic.consts),
            [kinds[role] for role in call.roles],
        )
    except NotProvenError as error:
        return None, Proof(False, str(error), call.roles)
    return symbolic, Proof(True, "", call.roles, tuple(outputs), steps, symbol)


def _confirm(proof: Proof, symbolic: Program, program: Program) -> Proof:
    """Return the proof if `program` is the symbolic one with its rows filled in."""
    comparison = Comparison(proof.symbol, program.rows)
    try:
        comparison.check(symbolic.jaxpr, program.jaxpr)
        comparison.check_consts(symbolic.consts, program.consts)
    except NotProvenError as error:
        return Proof(False, str(error), proof.roles)
    return proof


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _recall(program: Program, roles: Any) -> Proof | None:
    key = program.key and (program.key, program.rows, roles)
    return _proofs.get(key) if key else None


def _remember(program: Program, roles: Any, proof: Proof) -> None:
    if program.key is None:
        return
    _proofs[program.key, program.rows, roles] = proof
    if len(_proofs) > _KEPT:
        _proofs.popitem(last=False)
