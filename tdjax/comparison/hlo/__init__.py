"""Reading an optimised HLO program: what it holds, what it costs, whether two are the same.

Only text is read: no JAX, and no device, is needed.
"""

from tdjax.comparison.hlo.cost import Costs, costs
from tdjax.comparison.hlo.counts import counts, loops, operations
from tdjax.comparison.hlo.module import Module
from tdjax.comparison.hlo.movement import Movement, Steps, movements
from tdjax.comparison.hlo.names import canonical, fingerprint
from tdjax.comparison.hlo.parse import parse
from tdjax.comparison.hlo.place import Place, place

__all__ = [
    "Costs",
    "Module",
    "Movement",
    "Place",
    "Steps",
    "canonical",
    "costs",
    "counts",
    "fingerprint",
    "loops",
    "movements",
    "operations",
    "parse",
    "place",
]
