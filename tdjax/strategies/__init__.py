"""How a step function is run over time: one strategy a file, and the names they go by."""

from tdjax.strategies._candidates import candidates
from tdjax.strategies._choosing import Candidate
from tdjax.strategies._measured import written
from tdjax.strategies._registry import NAMES, parse
from tdjax.strategies.auto import Auto, Decision, recorded
from tdjax.strategies.base import Strategy
from tdjax.strategies.fold import Fold
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
