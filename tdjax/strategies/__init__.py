"""How a step function is run over time: one strategy a file, and the names they go by."""

from tdjax.strategies.auto import Auto, Decision, recorded
from tdjax.strategies.base import Strategy
from tdjax.strategies.choosing.candidates import candidates
from tdjax.strategies.choosing.measured import written
from tdjax.strategies.choosing.ranking import Candidate
from tdjax.strategies.fold import Fold
from tdjax.strategies.names import NAMES, parse
from tdjax.strategies.packed import Packed
from tdjax.strategies.vmap import Vmap

__all__ = [
    "NAMES",
    "Auto",
    "Candidate",
    "Decision",
    "Fold",
    "Packed",
    "Strategy",
    "Vmap",
    "candidates",
    "parse",
    "recorded",
    "written",
]
