"""Calls that type checkers accept, with the types that they find."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import tdjax
import tdjax.linen
import tdjax.nnx
from tdjax.strategies import parse

X = np.ones((2, 3, 4), np.float32)
MASK = np.ones((2, 3), bool)
LENGTHS = np.array([3, 1])


@tdjax.time_distributed
def bare(x: jax.Array, scale: float = 2.0) -> jax.Array:
    return x * scale


@tdjax.time_distributed(
    in_axes=(1, None), out_axes=0, strategy="fold", masked_output="keep", pooled=False
)
def pair(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    return x @ weight, {"x": x}


@tdjax.time_distributed
def takes_mask(x: jax.Array, mask: jax.Array) -> jax.Array:
    return x * mask[:, None]


class Model:
    scale: float = 3.0

    @tdjax.time_distributed
    def step(self, x: jax.Array, *, shift: float = 0.0) -> jax.Array:
        return x * self.scale + shift

    @staticmethod
    @tdjax.time_distributed
    def alone(x: jax.Array) -> jax.Array:
        return x


def decorated_functions() -> None:
    """Have the parameters and the result of the function; with a mask, its result."""
    x = jnp.asarray(X)
    assert_type(bare(x), jax.Array)
    assert_type(bare(x, 3.0), jax.Array)
    assert_type(bare(x, scale=3.0), jax.Array)
    assert_type(bare(x, mask=MASK), jax.Array)
    assert_type(bare(x, mask=None), jax.Array)
    assert_type(bare(x, seq_lengths=LENGTHS, scale=3.0), jax.Array)
    assert_type(pair(x, jnp.ones((4, 2))), tuple[jax.Array, dict[str, jax.Array]])
    assert_type(takes_mask(x, mask=jnp.asarray(MASK)), jax.Array)
    whole: Callable[[jax.Array, float], jax.Array] = bare
    assert_type(whole(x, 3.0), jax.Array)


def methods() -> None:
    """Are bound: nobody gives `self`."""
    x, model = jnp.asarray(X), Model()
    assert_type(model.step(x), jax.Array)
    assert_type(model.step(x, shift=1.0), jax.Array)
    assert_type(model.step(x, mask=MASK), jax.Array)
    assert_type(Model.step(model, x), jax.Array)
    assert_type(Model.alone(x), jax.Array)


def wrapped_functions() -> None:
    """May be any callable, under any strategy."""
    x = jnp.asarray(X)

    def tanh(x: jax.Array) -> jax.Array:
        return jnp.tanh(x)

    assert_type(tdjax.time_distributed(tanh)(x), jax.Array)
    assert_type(tdjax.time_distributed(Model().step)(jnp.ones((2, 3, 4, 1))), jax.Array)
    for strategy in (tdjax.Fold(4, unroll=True), tdjax.Vmap(2), tdjax.Auto(memory_budget="64MB")):
        assert_type(tdjax.time_distributed(tanh, strategy=strategy)(x), jax.Array)
    text = "Fold(4, unroll)"
    assert_type(tdjax.time_distributed(tanh, strategy=parse(text))(x), jax.Array)
    assert_type(tdjax.time_distributed(tanh, strategy="map", axis_name="time")(x), jax.Array)
    tdjax.time_distributed(jnp.tanh, in_axes=-2, axis_size=3)(x)


def flax_wrappers() -> None:
    """Give any result, as Flax modules do."""
    x = jnp.asarray(X)
    head = tdjax.linen.TimeDistributed(nn.Dense(3), strategy="fold", rng="shared", state="carry")
    variables = head.init(jax.random.key(0), x)
    head.apply(variables, x, mask=MASK)
    assert_type(tdjax.time_distributed(nn.Dense(3)), tdjax.linen.TimeDistributed)
    layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    tdjax.nnx.TimeDistributed(layer, strategy=tdjax.Fold(2), masked_output="keep")(
        x, seq_lengths=LENGTHS
    )
    assert_type(tdjax.time_distributed(layer), tdjax.nnx.TimeDistributed)
    tdjax.nnx.TimeDistributed(jnp.tanh, sum_collections=(nnx.Intermediate,))(x)


def choosing() -> None:
    """Takes functions, decorated or not, and modules."""
    x = jnp.asarray(X)
    explanation = tdjax.explain(bare, x, mask=MASK)
    assert_type(explanation, tdjax.Explanation)
    assert_type(explanation.rows_independent, bool)
    assert_type(tdjax.explain(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), x).reasons, tuple[str, ...])


def measuring() -> None:
    """Takes the same."""
    x = jnp.asarray(X)
    tuned = tdjax.tune(bare, x, strategies=("vmap", tdjax.Fold()), memory_budget="1GB")
    assert_type(tuned, tdjax.Tuning)
    comparison = tdjax.compare(nn.Dense(3), x, strategies=["vmap", "fold"], mode="both", rounds=3)
    assert_type(comparison, tdjax.Comparison)
