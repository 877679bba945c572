"""Whether arrays are spread over several devices: then no other process can take them over."""

from __future__ import annotations

from typing import Any

import jax


def is_spread(arguments: Any) -> bool:
    """Return whether any array of a pytree lies on more than one device."""
    placed = (getattr(array, "sharding", None) for array in jax.tree.leaves(arguments))
    return any(sharding is not None and sharding.num_devices > 1 for sharding in placed)
