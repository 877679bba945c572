"""Corners where one strategy could say something else than the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tdjax import Fold, StrategyError, Vmap, time_distributed

STRATEGIES = ["vmap", "map", "fold", Fold(chunk_size=4), Fold(chunk_size=1), "auto"]


@pytest.fixture
def x():
    return jax.random.normal(jax.random.key(0), (3, 5, 4))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_a_number_may_be_an_output(strategy, masked, x):
    step = time_distributed(lambda x: (x * 2.0, 1.0), out_axes=(1, 0), strategy=strategy)
    doubled, ones = step(x, mask=jnp.ones((3, 5), bool)) if masked else step(x)
    np.testing.assert_allclose(doubled, 2 * x, rtol=1e-6)
    np.testing.assert_array_equal(ones, np.ones(5))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_what_nothing_needs_cannot_stop_a_fold(strategy, x):
    def slope(x):
        x.mean(0)
        return jax.grad(lambda y: jnp.sin(y).sum())(x)

    np.testing.assert_allclose(time_distributed(slope, strategy=strategy)(x), jnp.cos(x), rtol=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_a_shared_array_with_the_batch_goes_with_every_block(strategy, x):
    scale = jnp.arange(12.0).reshape(3, 4)
    scaled = time_distributed(lambda a, b: a * b, in_axes=(1, None), strategy=strategy)(x, scale)
    np.testing.assert_allclose(scaled, x * scale[:, None], rtol=1e-6)


def test_one_block_of_all_rows_is_one_batch(x):
    center = time_distributed(
        lambda q: q - q.mean(0, keepdims=True), pooled=True, strategy=Fold(chunk_size=100)
    )
    np.testing.assert_allclose(center(x), x - x.mean((0, 1), keepdims=True), atol=1e-6)


def test_blocks_of_one_batch_are_refused_with_a_way_out(x):
    center = time_distributed(
        lambda q: q - q.mean(0, keepdims=True), pooled=True, strategy=Fold(chunk_size=4)
    )
    with pytest.raises(StrategyError, match=r"one batch \(pooled=True\).*Use strategy=\"fold\""):
        center(x)


def test_a_named_axis_may_be_recomputed(x):
    def center(q):
        return jnp.tanh(q - jax.lax.pmean(q, "steps"))

    plain = time_distributed(center, axis_name="steps", strategy="vmap")
    remat = time_distributed(center, axis_name="steps", strategy=Vmap(remat=True))
    np.testing.assert_allclose(remat(x), plain(x), rtol=1e-6)
    slopes = [jax.grad(lambda x, f=f: (f(x) ** 2).sum())(x) for f in (plain, remat)]
    np.testing.assert_allclose(slopes[1], slopes[0], atol=1e-6)


def test_keyword_arrays_are_not_mapped_and_the_error_says_so(x):
    with pytest.raises(ValueError, match="keyword arguments are never mapped"):
        time_distributed(jnp.sin)(x=x)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_features_may_be_none(strategy):
    x = jnp.ones((3, 5, 2, 0, 4))
    assert time_distributed(jnp.sin, strategy=strategy)(x).shape == x.shape
