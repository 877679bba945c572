"""The proof that output row i of a step function depends on input row i alone."""

from tdjax.independence.kinds import CONST, STEP, Kind, Rows
from tdjax.independence.proof import prove, prove_for_blocks
from tdjax.independence.result import Proof, Proven

__all__ = ["CONST", "STEP", "Kind", "Proof", "Proven", "Rows", "prove", "prove_for_blocks"]
