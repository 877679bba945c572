"""Steps whose rows do depend on each other: a fold of them would be wrong, and is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from real_programs.book import Shared, ids, keys, program, rightly, rows, weights

X = rows(4)


@program(X, expected=rightly("statistics of the batch"))
def batch_norm_in_training(x):
    return (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)


@program(X, rows(4, seed=1), expected=rightly("every row is a negative of the others"))
def contrastive_in_the_batch(x, y):
    return -jnp.diagonal(jax.nn.log_softmax(x @ y.T))


@program(X, expected=rightly("the spread of the batch"))
def deviation_of_the_batch(x):
    return jnp.concatenate([x, jnp.broadcast_to(x.std(0).mean(), (x.shape[0], 1))], -1)


@program(X, keys(), expected=rightly("pairs of rows"))
def mixed_with_another_row(x, key):
    return 0.7 * x + 0.3 * jax.random.permutation(key, x)


@program(X, Shared(jax.random.key(0)), expected=rightly("one key for all steps"))
def noise_from_one_key(x, key):
    return x + jax.random.normal(key, x.shape)


@program(X, expected=rightly("the batch's norm"))
def clipped_by_the_norm_of_all(x):
    return x / jnp.maximum(1.0, jnp.linalg.norm(x))


@program(X, expected=rightly("a global stopping condition"))
def until_all_rows_are_done(x):
    return jax.lax.while_loop(lambda y: jnp.abs(y).max() > 0.1, lambda y: y / 2, x)


@program(X, ids(below=3), expected=rightly("statistics of a group of rows"))
def mean_of_the_rows_of_a_class(x, label):
    one_hot = jax.nn.one_hot(label, 3)
    return (one_hot.T @ x / (one_hot.sum(0)[:, None] + 1e-3))[label]


@program(X, weights(4), expected=rightly("a mean over the batch"))
def mean_loss(x, w):
    return ((x @ w) ** 2).mean()


@program(X, expected=rightly("the number of a row"))
def position_in_the_batch(x):
    return x + jnp.arange(x.shape[0], dtype=x.dtype)[:, None]
