"""Whether arrays are held in parts by several devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax


def has_spread_type(array: Any) -> bool:
    """Say whether axes of a mesh are in an array's type, as they are on an explicit mesh.

    Its own axes cannot be merged then.
    """
    return any(axes is not None for axes in jax.typeof(array).sharding.spec)


def varying(array: Any) -> frozenset[Any]:
    """Return the axes of a mesh along which an array, or its type, varies in `jax.shard_map`."""
    aval = array if isinstance(array, jax.core.AbstractValue) else jax.typeof(array)
    return getattr(getattr(aval, "manual_axis_type", None), "varying", frozenset())


def vary(arrays: Sequence[Any], axes: frozenset[Any]) -> list[Any]:
    """Return arrays as ones that vary along these axes of a mesh."""
    return [_vary(array, axes - varying(array)) for array in arrays]


def _vary(array: Any, axes: frozenset[Any]) -> Any:
    return jax.lax.pcast(array, tuple(sorted(axes)), to="varying") if axes else array


def is_spread(arrays: Any) -> bool:
    """Say whether any array of a pytree lies on more than one device.

    No other process can take it over then.
    """
    placed = (getattr(array, "sharding", None) for array in jax.tree.leaves(arrays))
    return any(getattr(sharding, "num_devices", 1) > 1 for sharding in placed)
