"""Keys for steps: step t's noise depends on the key and on t alone, whichever strategy runs."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp


def typed(key: Any) -> Any:
    """Return a key as a typed one, which has no axis that could be taken for rows."""
    if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)


def step_keys(key: Any, rng: Literal["split", "shared"], time: Any, first: Any = 0) -> Any:
    """Return one key a step, `(time,)`: the key with t folded in, or the same one every time.

    `first` is the number of the first step.
    """
    if rng == "shared":
        return jnp.broadcast_to(key, (time,))
    return jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(time))
