"""The proof that output row i of a step function depends on input row i alone."""

from tdjax.independence.kinds import CONST, STEP, Kind, Rows
from tdjax.independence.proof import on_own_rows, prove, prove_for_blocks
from tdjax.independence.result import Proof, Proven

__all__ = [
    "CONST",
    "STEP",
    "Kind",
    "Proof",
    "Proven",
    "Rows",
    "on_own_rows",
    "prove",
    "prove_for_blocks",
]
