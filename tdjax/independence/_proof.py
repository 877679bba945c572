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


@dataclasses.dataclass(frozen=True, eq=False)
class Draft:
    """A proof for a batch of any size, not yet tied to a program of one size."""

    call: Call
    proof: Proof
    symbolic: Program | None

    def confirm(self, program: Program) -> Proof:
        """Return the proof if `program` is the symbolic one with its rows filled in."""
        if self.symbolic is None:
            return self.proof
        comparison = Comparison(self.proof.symbol, program.rows)
        try:
            comparison.check(self.symbolic.jaxpr, program.jaxpr)
            comparison.check_consts(self.symbolic.consts, program.consts)
        except NotProvenError as error:
            return Proof(False, str(error), self.proof.roles)
        return self.proof


def draft(call: Call) -> Draft:
    """Trace the step with a symbolic number of rows and follow them through its operations."""
    first = _attempt(call)
    if first.symbolic is None and call.with_spread().roles != call.roles:
        second = _attempt(call.with_spread())
        if second.proof.independent:
            return second
    return first


def _attempt(call: Call) -> Draft:
    if not set(call.roles) & {"rows", "spread"}:
        return Draft(call, Proof(False, "no argument has both time and batch", call.roles), None)
    symbol = fresh_rows([leaf.shape for leaf in call.leaves])
    try:
        symbolic = trace(call, symbol)
    except Exception as error:  # whatever the function raises, it has not been proven
        reason = f"it cannot be traced for a batch of any size: {_first_line(error)}"
        return Draft(call, Proof(False, reason, call.roles), None)
    analysis = Analysis(symbol)
    kinds: dict[str, Kind] = {"rows": Rows(0), "spread": Rows(0), "step": STEP, "shared": CONST}
    try:
        outputs, steps = analysis.run(
            symbolic.jaxpr,
            [CONST] * len(symbolic.consts),
            [kinds[role] for role in call.roles],
        )
    except NotProvenError as error:
        return Draft(call, Proof(False, str(error), call.roles), None)
    return Draft(call, Proof(True, "", call.roles, tuple(outputs), steps, symbol), symbolic)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


_KEPT = 256
_proofs: collections.OrderedDict[Any, Proof] = collections.OrderedDict()


def prove(call: Call, program: Program, drafted: Draft | None = None) -> Proof:
    """Return the proof for a program, or why there is none; remembered by program, not by function.

    Args:
        call: what is called.
        program: its trace at the number of rows that will run.
        drafted: the symbolic half, where it has been done already.
    """
    key = program.key and (program.key, program.rows, call.roles, call.batch)
    if key is not None and key in _proofs:
        _proofs.move_to_end(key)
        return _proofs[key]
    proof = (drafted or draft(call)).confirm(program)
    if key is not None:
        _proofs[key] = proof
        if len(_proofs) > _KEPT:
            _proofs.popitem(last=False)
    return proof
