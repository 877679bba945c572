"""One table of NNX layers, each with the inputs of a call, that the NNX tests run over."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from casebook import array, integers
from flax import nnx

from tdjax.nnx import TimeDistributed

BATCH, TIME = 2, 3
LENGTHS = jnp.array([3, 1])


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer and one call of it over time.

    Attributes:
        name: what the test is called.
        make: gives the layer, or a method of one, or a function.
        inputs: the positional arguments, `(batch, time, ...)` where time is mapped.
        kwargs: given to every step as they are.
        options: settings of the wrapper.
        masked: whether the call has `seq_lengths=LENGTHS`, and the layer's step its mask.
    """

    name: str
    make: Callable[[], Any]
    inputs: tuple = dataclasses.field(compare=False)
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    options: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    masked: bool = False

    def __str__(self) -> str:
        return self.name


def clip(*features: int, seed: int = 0) -> jax.Array:
    """Return one input, `(batch, time, *features)`."""
    return array(BATCH, TIME, *features, seed=seed)


def rngs() -> nnx.Rngs:
    return nnx.Rngs(0)


def trained(norm: nnx.BatchNorm) -> nnx.BatchNorm:
    """Give running statistics that are not those of a new layer, for evaluation."""
    norm.mean.set_value(jnp.linspace(-1.0, 1.0, norm.num_features))
    norm.var.set_value(jnp.linspace(0.5, 2.0, norm.num_features))
    return norm


def attention(**settings: Any) -> nnx.MultiHeadAttention:
    return nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs(), **settings)


def bidirectional() -> nnx.Bidirectional:
    forward, backward = (nnx.RNN(nnx.SimpleCell(4, 3, rngs=nnx.Rngs(seed))) for seed in (0, 1))
    return nnx.Bidirectional(forward, backward, rngs=rngs())


def linen_dense() -> nnx.bridge.ToNNX:
    """Return a Linen layer, as an NNX module."""
    return nnx.bridge.lazy_init(nnx.bridge.ToNNX(nn.Dense(3), rngs=rngs()), jnp.ones((1, 4)))


def sequential() -> nnx.Sequential:
    keys = rngs()
    return nnx.Sequential(
        nnx.Conv(3, 4, (3, 3), rngs=keys),
        trained(nnx.BatchNorm(4, use_running_average=True, rngs=keys)),
        nnx.relu,
        lambda x: nnx.max_pool(x, (2, 2), (2, 2)),
        lambda x: x.reshape(x.shape[0], -1),
        nnx.Linear(16, 3, rngs=keys),
    )


class Residual(nnx.Module):
    """A submodel of submodels, one of which is used twice."""

    def __init__(self, features: int, keys: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(features, rngs=keys)
        self.inner = nnx.Sequential(nnx.Linear(features, features, rngs=keys), nnx.gelu)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.inner(self.norm(x + self.inner(x)))


class Containers(nnx.Module):
    """A list and a dictionary of layers."""

    def __init__(self) -> None:
        keys = rngs()
        self.blocks = nnx.List([Residual(4, keys), nnx.Linear(4, 4, rngs=keys)])
        self.heads = nnx.Dict(
            {"mean": nnx.Linear(4, 3, rngs=keys), "scale": nnx.Linear(4, 1, rngs=keys)}
        )

    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        for block in self.blocks:
            x = block(x)
        return {name: head(x) for name, head in self.heads.items()}


class Fuse(nnx.Module):
    """Takes an array and a dictionary, one entry of which no step has of its own; gives a tree."""

    def __init__(self) -> None:
        self.query = nnx.Linear(4, 3, rngs=rngs())

    def __call__(self, x: jax.Array, rest: dict[str, jax.Array]) -> tuple:
        mixed = self.query(x) * rest["gate"] + rest["table"].sum(0)
        return mixed, {"norm": jnp.square(mixed).sum(-1), "none": None, "half": mixed[:, :2]}


class Modes(nnx.Module):
    """Batch normalization and dropout that are told what to do at the call, in both spellings."""

    def __init__(self) -> None:
        keys = rngs()
        self.linear = nnx.Linear(4, 3, rngs=keys)
        self.norm = trained(nnx.BatchNorm(3, rngs=keys))
        self.dropout = nnx.Dropout(0.5, rngs=keys)

    def __call__(self, x: jax.Array, train: bool, use_running_average: bool = True) -> jax.Array:
        x = self.norm(self.linear(x), use_running_average=use_running_average)
        return jnp.tanh(self.dropout(x, deterministic=not train))


class Gated(nnx.Module):
    """A layer of one's own that takes its step's mask."""

    def __init__(self) -> None:
        self.linear = nnx.Linear(4, 3, rngs=rngs())

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        return self.linear(x) if mask is None else self.linear(x) * (1.0 + mask[:, None])


class Encoder(nnx.Module):
    """A module with a method that is not `__call__`."""

    def __init__(self) -> None:
        self.linear = nnx.Linear(4, 3, rngs=rngs())

    def encode(self, x: jax.Array, scale: float = 1.0) -> jax.Array:
        return scale * jnp.tanh(self.linear(x))


def unit(x: jax.Array) -> jax.Array:
    return x / jnp.sqrt(1.0 + jnp.square(x).sum(-1, keepdims=True))


CASES = (
    Case("Linear", lambda: nnx.Linear(4, 3, rngs=rngs()), (clip(4),)),
    Case(
        "LinearGeneral",
        lambda: nnx.LinearGeneral((3, 4), (2, 5), axis=(-2, -1), rngs=rngs()),
        (clip(3, 4),),
    ),
    Case("Einsum", lambda: nnx.Einsum("bi,ij->bj", (4, 3), (3,), rngs=rngs()), (clip(4),)),
    Case("Conv1d", lambda: nnx.Conv(3, 4, (3,), rngs=rngs()), (clip(7, 3),)),
    Case("Conv2d", lambda: nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs()), (clip(6, 5, 3),)),
    Case(
        "Conv2d grouped",
        lambda: nnx.Conv(4, 6, (3, 3), feature_group_count=2, padding="VALID", rngs=rngs()),
        (clip(5, 5, 4),),
    ),
    Case("Conv3d", lambda: nnx.Conv(1, 3, (2, 2, 2), rngs=rngs()), (clip(3, 4, 3, 1),)),
    Case(
        "ConvTranspose", lambda: nnx.ConvTranspose(3, 4, (3, 3), 2, rngs=rngs()), (clip(3, 4, 3),)
    ),
    Case(
        "BatchNorm evaluated",
        lambda: trained(nnx.BatchNorm(4, use_running_average=True, rngs=rngs())),
        (clip(3, 4),),
    ),
    Case("LayerNorm", lambda: nnx.LayerNorm(4, rngs=rngs()), (clip(3, 4),)),
    Case("GroupNorm", lambda: nnx.GroupNorm(6, 3, rngs=rngs()), (clip(3, 4, 6),)),
    Case("RMSNorm", lambda: nnx.RMSNorm(4, rngs=rngs()), (clip(3, 4),)),
    Case("InstanceNorm", lambda: nnx.InstanceNorm(4, rngs=rngs()), (clip(3, 5, 4),)),
    Case("Dropout", lambda: nnx.Dropout(0.4, rngs=rngs()), (clip(3, 4),)),
    Case(
        "Dropout of whole channels",
        lambda: nnx.Dropout(0.4, broadcast_dims=(1,), rngs=rngs()),
        (clip(3, 8),),
    ),
    Case(
        "Embed",
        lambda: nnx.Embed(7, 4, rngs=rngs()),
        (integers(BATCH, TIME, 3, below=7),),
    ),
    Case(
        "MultiHeadAttention to another input",
        attention,
        (clip(3, 4), clip(5, 4, seed=1)),
        {"deterministic": True},
    ),
    Case(
        "MultiHeadAttention with dropout",
        lambda: attention(dropout_rate=0.5, broadcast_dropout=False, deterministic=False),
        (clip(3, 4),),
    ),
    Case("LoRALinear", lambda: nnx.LoRALinear(4, 3, lora_rank=2, rngs=rngs()), (clip(4),)),
    Case("RNN of LSTMCell", lambda: nnx.RNN(nnx.LSTMCell(4, 3, rngs=rngs())), (clip(3, 4),)),
    Case(
        "RNN of GRUCell, reversed",
        lambda: nnx.RNN(nnx.GRUCell(4, 3, rngs=rngs()), reverse=True, return_carry=True),
        (clip(3, 4),),
    ),
    Case("Bidirectional", bidirectional, (clip(3, 4),)),
    Case("Sequential", sequential, (clip(4, 4, 3),)),
    Case("submodels in a List and a Dict", Containers, (clip(4),)),
    Case(
        "several inputs and outputs",
        Fuse,
        (clip(4), {"gate": clip(3, seed=1), "table": jnp.ones((4, 3))}),
        options={"in_axes": (1, {"gate": 1, "table": None})},
    ),
    Case("train=False", Modes, (clip(4),), {"train": False}),
    Case("train=True", Modes, (clip(4),), {"train": True, "use_running_average": True}),
    Case("a Linen layer", linen_dense, (clip(4),)),
    Case("mask", Gated, (clip(4),), masked=True),
    Case("bound method", lambda: Encoder().encode, (clip(4),), {"scale": 2.0}),
    Case("function", lambda: unit, (clip(4),)),
    Case(
        "wrapper in a wrapper",
        lambda: TimeDistributed(nnx.Conv(3, 4, (3,), rngs=rngs()), strategy="vmap"),
        (clip(3, 4, 3),),
    ),
)
