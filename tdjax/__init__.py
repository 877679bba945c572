"""TimeDistributed for JAX and Flax: one step function over a `(batch, time, ...)` array.

The strategy that computes it (vmap, map, unroll, fold, blocks) never changes the answer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tdjax._version import __version__
from tdjax.core.errors import StrategyError
from tdjax.core.mask import lengths_to_mask, mask_to_lengths
from tdjax.strategies import Auto, Fold, Packed, Vmap
from tdjax.transform import time_distributed

if TYPE_CHECKING:
    from tdjax import linen, nnx, testing
    from tdjax.comparison import Comparison, Entry, compare
    from tdjax.comparison.calibration import calibrate
    from tdjax.devices.calibration import Calibration
    from tdjax.explanation import Explanation, explain
    from tdjax.tuning.tune import Tuning, tune

__all__ = [
    "Auto",
    "Calibration",
    "Comparison",
    "Entry",
    "Explanation",
    "Fold",
    "Packed",
    "StrategyError",
    "Tuning",
    "Vmap",
    "__version__",
    "calibrate",
    "compare",
    "explain",
    "lengths_to_mask",
    "linen",
    "mask_to_lengths",
    "nnx",
    "testing",
    "time_distributed",
    "tune",
]

_LAZY = {
    "calibrate": "tdjax.comparison.calibration",
    "Calibration": "tdjax.devices.calibration",
    "compare": "tdjax.comparison",
    "Comparison": "tdjax.comparison",
    "Entry": "tdjax.comparison",
    "explain": "tdjax.explanation",
    "Explanation": "tdjax.explanation",
    "tune": "tdjax.tuning.tune",
    "Tuning": "tdjax.tuning.tune",
}


def __getattr__(name: str) -> Any:
    """Import what is heavy, or needs Flax, only when it is asked for."""
    if name in ("linen", "nnx", "testing"):
        return importlib.import_module(f"tdjax.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'tdjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
