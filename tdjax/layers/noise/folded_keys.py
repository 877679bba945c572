"""A key that holds the keys of all steps, for a function that sees all steps as one batch.

Batch normalisation over batch and time needs the folded batch whole, and dropout in the same layer
needs the noise of every step. A key of the kind made here gives noise `(batch * time, ...)` whose
row `b * time + t` is row b of what step t's own key gives, so that the bits are those of any other
strategy, for any layer, with nothing rewritten.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl

from tdjax.core.errors import StrategyError


def fold_keys(keys: Any, batch: int) -> Any:
    """Return one key for `batch` rows of each of the steps that `keys`, `(time,)`, belong to."""
    words = jax.random.key_data(keys)
    spec = _folded_spec(jax.random.key_impl(keys), tuple(words.shape), batch)
    return jax.random.wrap_key_data(words.reshape(-1), impl=spec)


@functools.lru_cache(maxsize=256)
def _folded_spec(impl: Any, shape: tuple[int, ...], batch: int) -> Any:
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
        tag="folded",
    )


def draws(jaxpr: Any) -> Iterator[tuple[str, tuple]]:
    """Yield the shape of every draw of noise, and of every split of a key, in order."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("random_bits", "random_split"):
            yield eqn.primitive.name, tuple(eqn.params["shape"])
        for value in jax.tree.leaves(tuple(eqn.params.values()), is_leaf=_is_program):
            if _is_program(value):
                yield from draws(getattr(value, "jaxpr", value))


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns")


def check_draws(title: str, one_step: list, folded: list, batch: int, rows: int) -> None:
    """Raise StrategyError unless noise grows with the rows along its leading axis, and there alone.

    Noise that is the same for all rows of a step has no place in a batch of all steps.
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
