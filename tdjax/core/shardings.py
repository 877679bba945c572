"""Whether arrays are held in parts by several devices."""

from __future__ import annotations

from typing import Any

import jax


def has_spread_type(array: Any) -> bool:
    """Say whether axes of a mesh are in an array's type, as they are on an explicit mesh.

    Its own axes cannot be merged then.
    """
    return any(axes is not None for axes in jax.typeof(array).sharding.spec)


def is_spread(arrays: Any) -> bool:
    """Say whether any array of a pytree lies on more than one device.

    No other process can take it over then.
    """
    placed = (getattr(array, "sharding", None) for array in jax.tree.leaves(arrays))
    return any(getattr(sharding, "num_devices", 1) > 1 for sharding in placed)
