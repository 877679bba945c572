"""How a step function is run over time: one strategy a file, and the names they go by."""

from tdjax.strategies.auto import Auto
from tdjax.strategies.base import Strategy, to_data
from tdjax.strategies.choosing.decision import Decision, recorded, run_as_asked, tell_of
from tdjax.strategies.choosing.ranking import Candidate, candidates
from tdjax.strategies.fold import Fold
from tdjax.strategies.names import StrategyLike, register, unregister
from tdjax.strategies.packed import Packed
from tdjax.strategies.spelling import NAMES, parse
from tdjax.strategies.vmap import Vmap

__all__ = [
    "NAMES",
    "Auto",
    "Candidate",
    "Decision",
    "Fold",
    "Packed",
    "Strategy",
    "StrategyLike",
    "Vmap",
    "candidates",
    "parse",
    "recorded",
    "register",
    "run_as_asked",
    "tell_of",
    "to_data",
    "unregister",
]
