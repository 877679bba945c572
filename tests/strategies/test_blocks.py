"""Blocks of one row, of which JAX makes another program than of many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from all_orders import assert_is_the_loop, doubles

import tdjax

B, T, D = 3, 3, 2  # nine rows: the last block of two has one
X = doubles(B, T, D)
MATRICES = 0.3 * doubles(B, T, D, D, seed=1) + 2 * np.eye(D)
PLACES = np.random.default_rng(2).integers(0, D, (B, T, 2))
KEYS = jax.random.split(jax.random.key(0), T)


def product(matrices, x):
    return (matrices @ x[..., None])[..., 0]


def factors(matrices, x):
    square = matrices @ jnp.swapaxes(matrices, -1, -2)
    return jnp.linalg.cholesky(square), jnp.linalg.solve(matrices, x[..., None])


def singular_at_zero(matrices, x):
    return product(matrices, x) / jnp.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("fun", [product, factors, singular_at_zero])
def test_a_block_of_one_row_is_taken_with_another(fun):
    strategies = [tdjax.Fold(chunk_size=1, remat=True), tdjax.Packed(chunk_size=1)]
    order = 2 if fun is product else 1
    assert_is_the_loop(fun, MATRICES, X, strategies=strategies, order=order)


def test_blocks_of_one_row_that_are_written_out_or_read_or_draw():
    def step(matrices, x, places, key):
        found = jnp.take_along_axis(product(matrices, x), places, -1)
        return found + jax.random.normal(key, x.shape, x.dtype)

    args = MATRICES, X, PLACES, KEYS
    strategies = [tdjax.Fold(chunk_size=1, unroll=True), tdjax.Packed(chunk_size=1)]
    assert_is_the_loop(step, *args, in_axes=(1, 1, 1, 0), strategies=strategies, order=1)
