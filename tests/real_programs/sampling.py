"""Steps that draw: samplers, dropout, exploration."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from real_programs.book import (
    BATCH,
    TIME,
    Rows,
    ids,
    keys,
    program,
    rows,
    weights,
)

LOGITS = rows(7)


@program(LOGITS, Rows(jax.random.split(jax.random.key(1), (BATCH, TIME))))
def categorical_with_each_rows_key(logits, keys):
    return jax.vmap(jax.random.categorical)(keys, logits)


@program(LOGITS, keys())
def top_k_sampling(logits, key):
    best, where = jax.lax.top_k(logits, 3)
    chosen = jax.random.categorical(key, best)
    return where[jnp.arange(logits.shape[0]), chosen]


@program(LOGITS, keys())
def top_p_sampling(logits, key):
    order = jnp.argsort(-logits, -1)
    ranked = jnp.take_along_axis(logits, order, -1)
    before = jnp.cumsum(jax.nn.softmax(ranked, -1), -1) - jax.nn.softmax(ranked, -1)
    kept = jnp.where(before < 0.8, ranked, -jnp.inf)
    chosen = jax.random.categorical(key, kept)
    return jnp.take_along_axis(order, chosen[:, None], -1)[:, 0]


@program(LOGITS, ids(9, below=7))
def repetition_penalty(logits, history):
    seen = jnp.zeros_like(logits, bool).at[jnp.arange(logits.shape[0])[:, None], history].set(True)
    return jnp.where(seen, jnp.where(logits > 0, logits / 1.2, logits * 1.2), logits)


@program(rows(6, 8), keys())
def dropout_of_whole_features(x, key):
    return jnp.where(jax.random.bernoulli(key, 0.7, (x.shape[0], 1, 8)), x / 0.7, 0)


@program(rows(7), keys())
def exploration(values, key):
    """Choose the best action, or with some probability any."""
    first, second = jax.random.split(key)
    anything = jax.random.randint(first, values.shape[:1], 0, 7)
    explore = jax.random.uniform(second, values.shape[:1]) < 0.2
    return jnp.where(explore, anything, values.argmax(-1))


@program(rows(6, 6, 3), keys())
def augmentation(image, key):
    flip, light = jax.random.split(key)
    flipped = jax.random.bernoulli(flip, 0.5, (image.shape[0], 1, 1, 1))
    image = jnp.where(flipped, image[:, :, ::-1], image)
    return image * jax.random.uniform(light, (image.shape[0], 1, 1, 1), minval=0.5, maxval=1.5)


@program(rows(6, 6, 3), Rows(jax.random.split(jax.random.key(2), (BATCH, TIME))))
def random_crop(image, keys):
    def crop(one, key):
        start = jax.random.randint(key, (2,), 0, 3)
        return jax.lax.dynamic_slice(one, (start[0], start[1], 0), (4, 4, 3))

    return jax.vmap(crop)(image, keys)


@program(weights(3, 8, 8), rows(8), keys())
def dropout_in_scanned_layers(kernels, x, key):
    def layer(x, parts):
        kernel, own = parts
        kept = jax.random.bernoulli(own, 0.8, x.shape)
        return x + jnp.where(kept, jnp.tanh(x @ kernel), 0), None

    return jax.lax.scan(layer, x, (kernels, jax.random.split(key, 3)))[0]


@program(rows(4), keys())
def langevin_dynamics(x, key):
    def move(i, x):
        noise = jax.random.normal(jax.random.fold_in(key, i), x.shape)
        return x - 0.1 * x + 0.1 * noise

    return jax.lax.fori_loop(0, 3, move, x)
