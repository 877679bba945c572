"""The leaves of trees: which are arrays, and what typed keys are carried as."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.core.errors import describe


def is_array(leaf: Any) -> bool:
    """Say whether it is an array of JAX or NumPy."""
    return isinstance(leaf, (jax.Array, np.ndarray))


def is_key(leaf: Any) -> bool:
    """Say whether it is an array of typed PRNG keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def is_inexact(leaf: Any) -> bool:
    """Say whether it is of a floating point or complex dtype, and can be differentiated."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def bits(leaf: Any) -> Any:
    """Return the bits of typed keys; anything else as it is."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def normal(random: np.random.Generator, shape: Sequence[int], dtype: Any) -> jax.Array:
    """Return normally distributed numbers of an inexact dtype."""
    values = random.standard_normal(shape)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        values = values + 1j * random.standard_normal(shape)
    return jnp.asarray(values, dtype)


def describe_arrays(args: tuple[Any, ...]) -> str:
    """Return the arguments' shapes: `tree of 4 arrays, float32[8,16,64]`."""
    shown = []
    for arg in args:
        arrays = [leaf for leaf in jax.tree.leaves(arg) if is_array(leaf)]
        if len(arrays) > 1:
            shown.append(f"tree of {len(arrays)} arrays")
        else:
            shown.append(describe(arrays[0] if arrays else arg))
    return ", ".join(shown)
