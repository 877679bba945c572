"""Layers that the Flax tests share, and the plain loop that every strategy is held to."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from casebook import array
from flax import nnx

import tdjax

STRATEGIES = (
    "vmap",
    "fold",
    "map",
    "unroll",
    tdjax.Fold(chunk_size=3),
    tdjax.Fold(chunk_size=4, unroll=True, remat=True),
    tdjax.Vmap(chunk_size=2),
    "auto",
)
WHOLE = ("vmap", "fold", tdjax.Vmap(remat=True), tdjax.Fold(remat=True), "auto")
BLOCKED = ("map", "unroll", tdjax.Vmap(chunk_size=2), tdjax.Fold(chunk_size=3))

BATCH, TIME, FEATURES = 4, 5, 6


def data(*shape: int, seed: int = 0) -> jax.Array:
    return array(*(shape or (BATCH, TIME, FEATURES)), seed=seed)


class Net(nn.Module):
    """Dense, BatchNorm and Dropout, each of which can be left out."""

    norm: bool = False
    rate: float = 0.0
    sows: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(3)(x)
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.8)(x)
        if self.sows:
            self.sow("intermediates", "hidden", x)
        x = nn.Dropout(self.rate, deterministic=not train)(x)
        return jnp.tanh(x)


class Holder(nn.Module):
    """What a wrapped layer is without its wrapper: a submodule called `layer`."""

    layer: nn.Module

    def __call__(self, x, **kwargs):
        return self.layer(x, **kwargs)


def loop(layer, variables, x, key=None, rng="split", **kwargs):
    """Apply a layer step by step, in Python."""
    steps = []
    for t in range(x.shape[1]):
        rngs = None
        if key is not None:
            rngs = {"dropout": jax.random.fold_in(key, t) if rng == "split" else key}
        steps.append(Holder(layer).apply(variables, x[:, t], rngs=rngs, **kwargs))
    return jnp.stack(steps, axis=1)


def assert_close(actual, expected, atol=1e-6):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=atol)


def assert_no_tracers(tree):
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


class NnxNet(nnx.Module):
    """The same in NNX."""

    def __init__(self, norm=False, rate=0.0, sow=False, seed=0):
        rngs = nnx.Rngs(seed)
        self.dense = nnx.Linear(FEATURES, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, momentum=0.8, rngs=rngs) if norm else None
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.sows = sow

    def __call__(self, x):
        x = self.dense(x)
        if self.norm is not None:
            x = self.norm(x)
        if self.sows:
            self.sow(nnx.Intermediate, "hidden", x)
        return jnp.tanh(self.dropout(x))
