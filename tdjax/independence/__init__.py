"""The proof that output row i of a step function depends on input row i alone."""

from __future__ import annotations

from typing import Any

from tdjax.core.call import Call
from tdjax.independence.kinds import CONST, STEP, Kind, Rows
from tdjax.independence.result import Proof, Proven

__all__ = ["CONST", "STEP", "Kind", "Proof", "Proven", "Rows", "prove"]


def prove(call: Call, rows: Any, settled: bool = False) -> Proven:
    """Return the proof that the rows of a call are independent, or why there is none.

    See `tdjax.independence.proof.prove`. The rules are half of what tdjax is, and are imported
    with the first proof.
    """
    from tdjax.independence import proof

    return proof.prove(call, rows, settled)
