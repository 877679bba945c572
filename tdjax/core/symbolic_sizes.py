"""Symbolic sizes, as `jax.export` traces with them: sizes that are expressions, not ints."""

from __future__ import annotations

from typing import Any

import jax

from tdjax.core.shardings import varying


def is_symbolic(size: Any) -> bool:
    """Say whether a size is an expression over symbols rather than an int."""
    return not isinstance(size, int) and hasattr(size, "get_vars")


def is_concrete_shape(shape: tuple) -> bool:
    """Say whether every size of a shape is an int."""
    return not any(is_symbolic(size) for size in shape)


def reshaped(shape: tuple, like: Any) -> Any:
    """Return the description of an array of another shape, with `like`'s dtype and weakness.

    Inside `jax.shard_map`, an array's type also says along which axes of the mesh it varies. That
    is kept: without it JAX would take the array for one that all devices share.
    """
    aval: Any = like if isinstance(like, jax.core.AbstractValue) else jax.typeof(like)
    if varying(aval):
        spec = jax.sharding.PartitionSpec(*[None] * len(shape))
        return aval.update(shape=tuple(shape), sharding=aval.sharding.update(spec=spec))
    return jax.ShapeDtypeStruct(shape, aval.dtype, weak_type=getattr(aval, "weak_type", False))
