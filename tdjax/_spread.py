"""Whether an array's type says that a mesh holds it in parts: an explicit mesh's types do."""

from __future__ import annotations

from typing import Any

import jax


def is_spread(array: Any) -> bool:
    """Say whether axes of a mesh are in an array's type: then its own axes cannot be merged."""
    return any(axes is not None for axes in jax.typeof(array).sharding.spec)
