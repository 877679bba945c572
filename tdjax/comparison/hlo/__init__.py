"""Reading an optimized HLO program: what it holds, what it costs, whether two are the same.

Only text is read: no JAX, and no device, is needed.
"""

from tdjax.comparison.hlo.cost import costs
from tdjax.comparison.hlo.facts import Facts, canonical, counts, fingerprint, loops, read_facts
from tdjax.comparison.hlo.movement import Movement, Steps, movements
from tdjax.comparison.hlo.parse import parse
from tdjax.comparison.hlo.place import Place, find_place

__all__ = [
    "Facts",
    "Movement",
    "Place",
    "Steps",
    "canonical",
    "costs",
    "counts",
    "find_place",
    "fingerprint",
    "loops",
    "movements",
    "parse",
    "read_facts",
]
