"""Steps that draw: samplers, dropout, exploration."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from real_programs.book import (
    BATCH,
    TIME,
    Rows,
    Shared,
    ids,
    keys,
    numbers,
    program,
    rows,
    weights,
)

LOGITS = rows(7)


@program(LOGITS, keys())
def categorical(logits, key):
    return jax.random.categorical(key, logits)


@program(LOGITS, Rows(jax.random.split(jax.random.key(1), (BATCH, TIME))))
def categorical_with_each_rows_key(logits, keys):
    return jax.vmap(jax.random.categorical)(keys, logits)


@program(LOGITS, keys(), numbers())
def gumbel_softmax(logits, key, temperature):
    noise = jax.random.gumbel(key, logits.shape)
    return jax.nn.softmax((logits + noise) / (1 + jnp.abs(temperature)), -1)


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


@program(rows(8), weights(8, 6), keys())
def variational_bottleneck(x, kernel, key):
    mean, log_scale = jnp.split(x @ kernel, 2, -1)
    sample = mean + jnp.exp(log_scale) * jax.random.normal(key, mean.shape)
    divergence = (jnp.exp(2 * log_scale) + mean**2 - 1 - 2 * log_scale).sum(-1) / 2
    return sample, divergence


@program(rows(8), keys())
def dropout(x, key):
    return jnp.where(jax.random.bernoulli(key, 0.7, x.shape), x / 0.7, 0)


@program(rows(6, 8), keys())
def dropout_of_whole_features(x, key):
    return jnp.where(jax.random.bernoulli(key, 0.7, (x.shape[0], 1, 8)), x / 0.7, 0)


@program(rows(8), keys())
def dropped_paths(x, key):
    kept = jax.random.bernoulli(key, 0.8, (x.shape[0],) + (1,) * (x.ndim - 1))
    return x + jnp.where(kept, jnp.tanh(x) / 0.8, 0)


@program(rows(7), keys())
def exploration(values, key):
    """Choose the best action, or with some probability any."""
    first, second = jax.random.split(key)
    anything = jax.random.randint(first, values.shape[:1], 0, 7)
    explore = jax.random.uniform(second, values.shape[:1]) < 0.2
    return jnp.where(explore, anything, values.argmax(-1))


@program(rows(3), keys())
def truncated_noise(x, key):
    return x + jax.random.truncated_normal(key, -2.0, 2.0, x.shape)


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


@program(rows(2), keys())
def diffusion_step(x, key):
    noise = jax.random.normal(key, x.shape)
    level = jax.random.uniform(jax.random.fold_in(key, 1), x.shape[:1])
    return x * jnp.sqrt(1 - level)[:, None] + noise * jnp.sqrt(level)[:, None]


def _dropped():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, deterministic=False):
            y = nn.gelu(nn.Dense(8)(nn.LayerNorm()(x)))
            return x + nn.Dropout(0.3, deterministic=deterministic)(y)

    module = Block()
    init = jax.jit(functools.partial(module.init, deterministic=True))
    return module, init(jax.random.key(0), np.ones((1, 8), np.float32))


DROPPED, DROPPED_VARIABLES = _dropped()


@program(Shared(DROPPED_VARIABLES), rows(8), keys())
def residual_block_with_dropout(variables, x, key):
    return DROPPED.apply(variables, x, rngs={"dropout": key})


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
