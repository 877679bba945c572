"""The proof that output row i of a step function depends on input row i alone."""

from tdjax.independence._kinds import CONST, STEP, Kind, Rows
from tdjax.independence._proof import Proof, Proven, prove

__all__ = ["CONST", "STEP", "Kind", "Proof", "Proven", "Rows", "prove"]
