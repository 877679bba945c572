"""A key for every step, and one key for all steps as one batch, whose noise has the same bits.

**Every step has its own key.** Step t draws from k_t = fold_in(k, t), or from k itself where noise
is shared. It depends only on the key and on t, so every strategy draws the same bits: the loop and
`vmap` call the layer with k_t, a fold evaluates the equations that draw once for each k_t.

**All steps as one batch.** Batch normalization over batch and time needs the layer to be called
once, on `(batch * time, ...)`. One call draws from one key, but the bits must be those of k_0, k_1,
... So the call gets a key of a special kind, which holds the words of all k_t. With B rows and T
steps, row b * T + t of its noise is row b of the noise of k_t:

    bits(folded, (B * T * m, F))[(b * T + t) * m + j] = bits(k_t, (B * m, F))[b * m + j]

for j < m, where a row has m leading entries (1, unless a layer merges other axes into its rows). An
example with B = 2, T = 2, m = 1:

    k_0: a0 b0        k_1: a1 b1        folded: a0 a1 b0 b1

Splitting and folding in act on every k_t, so keys derived inside the layer are of this kind too.
`uniform`, `normal`, `bernoulli` and the like map bits to values entry by entry, so equal bits give
equal noise, and layers need no change. `check_draws` refuses noise whose leading axis does not grow
with the rows: a mask that all rows of a step share has no place in a batch of all steps.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl

from tdjax.core.arrays import is_key
from tdjax.core.errors import StrategyError
from tdjax.partition.noise import derived_tag


def as_typed_key(key: Any) -> Any:
    """Return a key as a typed one, which has no axis that could be taken for rows."""
    return key if is_key(key) else jax.random.wrap_key_data(key)


def step_keys(key: Any, rng: Literal["split", "shared"], time: Any, first: Any = 0) -> Any:
    """Return one key a step, `(time, ...)`: the key with t folded in, or the same one every time.

    Args:
        key: a key, or an array of keys, as layers that are stacked have them: each of them is
            treated alike.
        rng: whether t is folded in.
        time: how many steps there are.
        first: the number of the first step.
    """
    if rng == "shared":
        return jnp.broadcast_to(key, (time, *key.shape))
    fold_in = jax.random.fold_in
    for _ in key.shape:
        fold_in = jax.vmap(fold_in, (0, None))
    return jax.vmap(fold_in, (None, 0))(key, first + jnp.arange(time))


def fold_keys(keys: Any, batch: int) -> Any:
    """Return keys for `batch` rows of each of the steps that `keys`, `(time, ...)`, belong to."""
    words = jax.random.key_data(keys)
    impl, tag = jax.random.key_impl(keys), derived_tag("folded", keys)
    spec = _folded_spec(impl, tag, (keys.shape[0], *words.shape[keys.ndim :]), batch)
    each = jnp.moveaxis(words, 0, keys.ndim - 1)
    return jax.random.wrap_key_data(each.reshape(*keys.shape[1:], -1), impl=spec)


@functools.lru_cache(maxsize=256)
def _folded_spec(impl: Any, tag: str, shape: tuple[int, ...], batch: int) -> Any:
    """Return the kind of keys that hold the words of one key of `impl` for every step."""
    time, *words = shape
    rows = batch * time

    def steps(data: Any) -> Any:
        return jax.random.wrap_key_data(data.reshape(shape), impl=impl)

    def seed(_: Any) -> Any:
        raise NotImplementedError("a folded key is made of keys, never of a seed")

    def fold_in(data: Any, number: Any) -> Any:
        keys = jax.vmap(jax.random.fold_in, (0, None))(steps(data), number)
        return jax.random.key_data(keys).reshape(-1)

    def split(data: Any, count: tuple[int, ...]) -> Any:
        keys = jax.vmap(lambda key: jax.random.split(key, count))(steps(data))
        return jnp.moveaxis(jax.random.key_data(keys), 0, len(count)).reshape(*count, -1)

    def random_bits(data: Any, bit_width: int, size: tuple[int, ...]) -> Any:
        inner = size[0] // rows
        one_step = (batch * inner, *size[1:])
        bits = jax.vmap(lambda key: jax.random.bits(key, one_step, f"uint{bit_width}"))(steps(data))
        return jnp.moveaxis(bits.reshape(time, batch, inner, *size[1:]), 0, 1).reshape(size)

    return define_prng_impl(
        key_shape=(time * math.prod(words),),
        seed=seed,
        split=split,
        random_bits=random_bits,
        fold_in=fold_in,
        name=f"tdjax_folded_{impl}_{time}_{batch}",
        tag=tag,
    )


def check_draws(title: str, one_step: list, folded: list, batch: int, rows: int) -> None:
    """Raise StrategyError unless noise grows with the rows along its leading axis, and only there.

    Args:
        title: what the error calls the layer.
        one_step: the draws of a step on `batch` rows, and the splits of its keys.
        folded: those of all steps as one batch of `rows` rows.
    """
    same_count = len(one_step) == len(folded)
    for (kind, small), (_, large) in zip(one_step, folded, strict=same_count):
        leads = small and small[0] * rows == large[0] * batch and small[1:] == large[1:]
        if kind == "random_split" and small == large:
            continue
        if kind == "random_split" or not same_count or not leads or large[0] % rows:
            raise StrategyError(
                f"{title} draws noise of shape {small} for one step and {large} for all of them as "
                f"one batch, which does not give every row its own: a fold cannot give each step "
                f'its noise. Use strategy="vmap".'
            )
