"""Layers on real steps alone: noise, statistics and what is sown are those of other strategies."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax_cases import BATCH, TIME, Net, NnxNet, assert_close, data

import tdjax
from tdjax import Packed
from tdjax.linen import TimeDistributed

KEY = jax.random.key(7)
LENGTHS = jnp.array([5, 0, 2, 3])
REAL = jnp.arange(TIME) < LENGTHS[:, None]
STRATEGIES = ("packed", Packed(chunk_size=8), Packed(chunk_size=3))


def padded():
    return jnp.where(REAL[..., None], data(), jnp.nan)


class Noisy(nn.Module):
    """Batch normalization in evaluation, between two dropouts; the noise is sown."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dropout(0.3, deterministic=False)(x)
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(3)(x))
        self.sow("intermediates", "hidden", x)
        return nn.Dropout(0.5, deterministic=False)(jnp.tanh(x))


@functools.cache
def noisy(strategy, rng):
    """Return a loss under a mask, what it came from, and gradients, of one strategy."""
    variables = TimeDistributed(Noisy()).init({"params": KEY, "dropout": KEY}, data())

    def loss(variables, x):
        layer = TimeDistributed(Noisy(), strategy=strategy, rng=rng)
        output, sown = layer.apply(
            variables, x, seq_lengths=LENGTHS, rngs={"dropout": KEY}, mutable="intermediates"
        )
        return (output * data(BATCH, TIME, 3, seed=1)).sum(), (output, sown)

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(variables, padded())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("rng", ["split", "shared"])
def test_noise_and_gradients_are_those_of_a_fold(strategy, rng):
    (_, (output, sown)), gradients = noisy(strategy, rng)
    (_, (folded, folded_sown)), folded_gradients = noisy("fold", rng)
    np.testing.assert_array_equal(output == 0, folded == 0)  # the very same bits
    assert_close((output, sown), (folded, folded_sown))
    assert_close(gradients, folded_gradients, atol=2e-6)


def test_batch_statistics_need_a_fold():
    variables = TimeDistributed(Net(norm=True)).init(KEY, data())
    for pooled, way in ((None, '"fold" with the mask'), (False, '"vmap"')):
        layer = TimeDistributed(Net(norm=True), strategy="packed", pooled=pooled)
        with pytest.raises(tdjax.StrategyError, match=way):
            layer.apply(variables, data(), train=True, mask=REAL, mutable=["batch_stats"])


def test_a_layer_without_a_mask_is_told_to_give_one():
    layer = TimeDistributed(nn.Dense(3), strategy="packed")
    variables = layer.init(KEY, data())
    with pytest.raises(tdjax.StrategyError, match=r"no mask.*seq_lengths="):
        layer.apply(variables, data())


def test_nnx():
    def run(strategy):
        net = NnxNet(norm=True, rate=0.5)
        net.norm.use_running_average = True
        return tdjax.nnx.TimeDistributed(net, strategy=strategy)(padded(), mask=REAL)

    packed, folded = run(Packed(chunk_size=8)), run("fold")
    assert_close(packed, folded)
    np.testing.assert_array_equal(packed == 0, folded == 0)
