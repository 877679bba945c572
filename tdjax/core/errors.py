"""The errors that tdjax raises, and how it names an array in them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


class StrategyError(ValueError):
    """A correct call with a strategy that cannot keep the meaning of the loop.

    The message names what prevents it, and which strategy, option or change of the function helps.
    """


def describe(value: Any) -> str:
    """Return how an error names a value: `float32[8,10,3]` for arrays, else its type."""
    try:
        aval = jax.typeof(value)
        return f"{aval.dtype}[{','.join(str(size) for size in aval.shape)}]"
    except (TypeError, AttributeError):
        if isinstance(value, np.ndarray):
            return f"{value.dtype}[{','.join(map(str, value.shape))}]"
        return type(value).__name__
