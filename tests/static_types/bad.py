"""Calls that type checkers reject: every line marked `# rejected`, and no other."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

import tdjax
import tdjax.linen
import tdjax.nnx


@tdjax.time_distributed
def step(x: jax.Array, scale: float = 2.0) -> jax.Array:
    return x * scale


class Model:
    @tdjax.time_distributed(strategy="fold")
    def step(self, x: jax.Array) -> jax.Array:
        return x


def never_called(x: jax.Array) -> None:
    step()  # rejected
    step("text")  # rejected
    step(x, "text")  # rejected
    step(x, 2.0, 3.0)  # rejected
    step(x, factor=2.0)  # rejected
    step(x, mask="text")  # rejected
    step(x, seq_lengths=2.5)  # rejected
    step(x).append(3)  # rejected
    step(x, mask=None).append(3)  # rejected
    number: int = step(x)  # rejected
    Model().step(x, x)  # rejected
    Model().step()  # rejected
    text: str = Model().step(x)  # rejected
    print(number, text)


def strategies(x: jax.Array) -> None:
    tdjax.time_distributed(jnp.tanh, strategy="vmapp")  # rejected
    tdjax.time_distributed(strategy="Fold")  # rejected
    tdjax.time_distributed(jnp.tanh, strategy=tdjax.Fold)  # rejected
    tdjax.time_distributed(jnp.tanh, strategy=4)  # rejected
    tdjax.time_distributed(jnp.tanh, stategy="vmap")  # rejected
    tdjax.time_distributed(jnp.tanh, masked_output="zeros")  # rejected
    tdjax.time_distributed(jnp.tanh, pooled="yes")  # rejected
    tdjax.time_distributed(3)  # rejected
    tdjax.Fold(chunk_size="many")  # rejected
    tdjax.Fold(chunks=4)  # rejected
    tdjax.Vmap(4, remat="yes")  # rejected
    tdjax.Packed(unroll=True)  # rejected
    tdjax.Auto(mode="grad")  # rejected
    tdjax.Auto(memory_budget=[1])  # rejected


def wrappers(x: jax.Array) -> None:
    tdjax.linen.TimeDistributed(nn.Dense(3), rng="spit")  # rejected
    tdjax.linen.TimeDistributed(nn.Dense(3), strategy="vmapp")  # rejected
    tdjax.linen.TimeDistributed(nn.Dense(3), state="carried")  # rejected
    tdjax.linen.TimeDistributed(nn.Dense(3), masked_output="zeros")  # rejected
    tdjax.linen.TimeDistributed(nn.Dense(3), pooled="yes")  # rejected
    tdjax.linen.TimeDistributed(3)  # rejected
    layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    tdjax.nnx.TimeDistributed(layer, rng="spit")  # rejected
    tdjax.nnx.TimeDistributed(layer, strategy="vmapp")  # rejected
    tdjax.nnx.TimeDistributed(layer, state="carried")  # rejected
    tdjax.nnx.TimeDistributed(layer)(x, mask="text")  # rejected
    tdjax.time_distributed(layer, strategy="vmapp")  # rejected
    tdjax.time_distributed(nn.Dense(3), strategy="vmapp")  # rejected


def choosing(x: jax.Array) -> None:
    tdjax.explain(3, x)  # rejected
    tdjax.explain(step, x, mask="text")  # rejected
    print(tdjax.explain(step, x).strategies)  # rejected
    tdjax.tune(step, x, mode="gradient")  # rejected
    tdjax.tune(step, x, strategies=("vmapp",))  # rejected
    tdjax.tune(step, x, memory_budget=[1])  # rejected
    print(tdjax.tune(step, x).bset)  # rejected
    tdjax.compare(step, x, mode="gradient")  # rejected
    tdjax.compare(step, x, strategies=("vmap", 3))  # rejected
    tdjax.compare(step, x, rounds="many")  # rejected
