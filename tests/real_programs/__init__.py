"""Steps that people write: a table of real programs, with what is proven of each of them."""

from real_programs import (
    algebra,
    attention,
    decoding,
    dependent,
    layers,
    losses,
    recurrent,
    sampling,
    signals,
    simulation,
    structures,
)
from real_programs.book import BATCH, PROGRAMS, PROVEN, TIME, Refused, Shared

__all__ = ["BATCH", "PROGRAMS", "PROVEN", "TIME", "Refused", "Shared"]
__all__ += [
    "algebra",
    "attention",
    "decoding",
    "dependent",
    "layers",
    "losses",
    "recurrent",
    "sampling",
    "signals",
    "simulation",
    "structures",
]
