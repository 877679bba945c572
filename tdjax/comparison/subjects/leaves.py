"""The arrays that subjects take: random ones, and what a report calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.core.arrays import is_array
from tdjax.core.errors import describe


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
