"""Outside of jit `apply` goes a shorter way than inside, which nothing but the time tells."""

from __future__ import annotations

import gc
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamShapeError

from tdjax.linen import TimeDistributed

X = jax.random.normal(jax.random.key(0), (2, 3, 4))
KEYS = {"params": jax.random.key(1), "dropout": jax.random.key(2), "own": jax.random.key(3)}
PATHS = []


class Inner(nn.Module):
    part: nn.Module

    @nn.compact
    def __call__(self, x, scale=1.0):
        PATHS.append((self.name, self.path, self.part.path))
        noise = jax.random.normal(self.make_rng("own"), x.shape)
        return nn.Dropout(0.5, deterministic=False)(self.part(x)) * scale + noise


class Prepared(nn.Module):
    def setup(self):
        self.first = nn.Dense(4)
        self.second = nn.BatchNorm(use_running_average=True)

    def __call__(self, x, mask=None):
        y = self.second(self.first(x))
        self.sow("intermediates", "y", y)
        return y if mask is None else jnp.where(mask[:, None], y, -1.0)


CASES = {
    "parts, noise and a keyword": (Inner(nn.Dense(4)), {"scale": 2.0}),
    "setup, statistics and a mask": (Prepared(), {"mask": jnp.array([[True, False, True]] * 2)}),
    "lengths": (Prepared(), {"seq_lengths": jnp.array([3, 1])}),
    "boxed": (nn.Dense(4, kernel_init=nn.with_partitioning(nn.initializers.ones, (None, "m"))), {}),
    "no variables": (nn.Dropout(0.5, deterministic=False), {}),
}


@pytest.mark.parametrize("strategy", ["auto", "vmap"])
@pytest.mark.parametrize("name", CASES)
def test_eager_and_traced_are_one(name, strategy):
    layer, given = CASES[name]
    wrapper = TimeDistributed(layer, strategy=strategy)
    variables = wrapper.init(KEYS, X, **given)
    variables.pop("intermediates", None)
    rngs = {name: key for name, key in KEYS.items() if name != "params"}
    PATHS.clear()
    traced = jax.jit(lambda v, x: wrapper.apply(v, x, rngs=rngs, **given))(variables, X)
    inside = set(PATHS)
    PATHS.clear()
    for _ in range(2):
        eager = wrapper.apply(variables, X, rngs=rngs, **given)
        np.testing.assert_allclose(eager, traced, rtol=1e-6, atol=1e-6)
    assert set(PATHS) == inside
    assert layer.scope is None and layer.parent is None


def test_a_wrong_shape_is_told_after_right_ones_were_seen():
    wrapper = TimeDistributed(nn.Dense(4))
    variables = wrapper.init(KEYS, X)
    wrapper.apply(variables, X)
    for wrong in (X[..., :3], X[..., :3], jnp.ones((2, 3, 5))):
        with pytest.raises(ScopeParamShapeError, match="kernel"):
            wrapper.apply(variables, wrong)
    np.testing.assert_allclose(
        wrapper.apply(variables, X), nn.Dense(4).apply({"params": variables["params"]["layer"]}, X)
    )


def test_who_looks_sees_the_wrapper():
    wrapper, seen = TimeDistributed(nn.Dense(4)), []
    variables = wrapper.init(KEYS, X)

    def look(call, args, kwargs, context):
        seen.append(type(context.module).__name__)
        return call(*args, **kwargs)

    with nn.intercept_methods(look):
        wrapper.apply(variables, X)
    assert {"TimeDistributed", "Dense"} <= set(seen)
    _, state = wrapper.apply(variables, X, capture_intermediates=True, mutable=["intermediates"])
    assert state["intermediates"]["layer"]["__call__"][0].shape == (2, 3, 4)


def test_no_weights_are_kept_alive():
    def call_and_leave():
        table = jnp.ones((5, 6))
        layer = nn.Dense(6, kernel_init=lambda key, shape, dtype: table * 1)
        wrapper, x = TimeDistributed(layer), jnp.ones((2, 3, 5))
        variables = wrapper.init(KEYS, x)
        for _ in range(2):
            wrapper.apply(variables, x)
        return [weakref.ref(array) for array in (table, x, *jax.tree.leaves(variables))]

    references = call_and_leave()
    jax.clear_caches()
    gc.collect()
    assert not any(reference() is not None for reference in references)
