"""Attention of all kinds."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from real_programs.book import (
    BATCH,
    TIME,
    Shared,
    Steps,
    array,
    ids,
    keys,
    lengths,
    program,
    rows,
    weights,
)

LENGTH, WIDTH, HEADS = 5, 8, 2
WORDS = rows(LENGTH, WIDTH)


def attend(q, k, v, allowed=None, bias=None):
    """Attend along the second axis, features last, of arrays `(batch, length, ..., size)`."""
    scores = jnp.einsum("bq...d,bk...d->b...qk", q, k) / jnp.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias
    if allowed is not None:
        scores = jnp.where(allowed, scores, -1e9)
    return jnp.einsum("b...qk,bk...d->bq...d", jax.nn.softmax(scores, -1), v)


def split(x, heads=HEADS):
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def rotate(x, positions):
    """Turn pairs of features by an angle that grows with the position."""
    half = x.shape[-1] // 2
    angles = positions[..., None] * 10.0 ** -jnp.arange(half, dtype=x.dtype)
    sine, cosine = jnp.sin(angles), jnp.cos(angles)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cosine - second * sine, first * sine + second * cosine], -1)


@program(WORDS, weights(WIDTH, 3 * WIDTH))
def causal_attention(x, kernel):
    q, k, v = map(split, jnp.split(x @ kernel, 3, -1))
    return attend(q, k, v, jnp.tril(jnp.ones((LENGTH, LENGTH), bool)))


@program(WORDS, weights(WIDTH, 3 * WIDTH), lengths(LENGTH))
def masked_attention(x, kernel, lengths):
    q, k, v = map(split, jnp.split(x @ kernel, 3, -1))
    real = jnp.arange(LENGTH) < lengths[:, None]
    return attend(q, k, v, real[:, None, None, :]) * real[:, :, None, None]


@program(WORDS, rows(7, WIDTH, seed=2), weights(WIDTH, WIDTH), weights(WIDTH, 2 * WIDTH))
def cross_attention(x, memory, query, key_value):
    k, v = map(split, jnp.split(memory @ key_value, 2, -1))
    return attend(split(x @ query), k, v)


@program(WORDS, Shared(array(BATCH, 7, WIDTH)), weights(WIDTH, WIDTH))
def attention_to_a_memory_of_the_sequence(x, memory, query):
    return attend(x @ query, memory, memory)


@program(WORDS, weights(WIDTH, WIDTH), weights(WIDTH, WIDTH))
def grouped_query_attention(x, query, key_value):
    q = split(x @ query, 4)
    k, v = (jnp.repeat(split(part, 2), 2, axis=2) for part in jnp.split(x @ key_value, 2, -1))
    return attend(q, k, v)


@program(WORDS, weights(WIDTH, 3 * WIDTH))
def rotary_attention(x, kernel):
    q, k, v = map(split, jnp.split(x @ kernel, 3, -1))
    positions = jnp.arange(LENGTH, dtype=x.dtype)[None, :, None]
    return attend(rotate(q, positions), rotate(k, positions), v)


@program(WORDS)
def sliding_window_attention(x):
    near = jnp.abs(jnp.arange(LENGTH)[:, None] - jnp.arange(LENGTH)) < 2
    return attend(x, x, x, near)


@program(WORDS, weights(2 * LENGTH - 1, HEADS))
def attention_with_relative_bias(x, table):
    distance = jnp.arange(LENGTH)[None, :] - jnp.arange(LENGTH)[:, None] + LENGTH - 1
    bias = jnp.moveaxis(table[distance], -1, 0)
    return attend(split(x), split(x), split(x), bias=bias)


@program(WORDS)
def linear_attention(x):
    q, k = jax.nn.elu(x) + 1, jax.nn.elu(x) + 1
    state = jnp.cumsum(jnp.einsum("bld,ble->blde", k, x), 1)
    normalizer = jnp.einsum("bld,bld->bl", q, jnp.cumsum(k, 1))
    return jnp.einsum("bld,blde->ble", q, state) / normalizer[..., None]


@program(WORDS, lengths(LENGTH))
def attention_of_jax_with_lengths(x, lengths):
    heads = split(x)
    return jax.nn.dot_product_attention(
        heads, heads, heads, query_seq_lengths=lengths, key_value_seq_lengths=lengths
    )


def _flax_attention():
    module = nn.MultiHeadDotProductAttention(num_heads=HEADS, dropout_rate=0.3)
    init = jax.jit(functools.partial(module.init, deterministic=True))
    return module, init(jax.random.key(0), np.ones((1, LENGTH, WIDTH), np.float32))


FLAX_ATTENTION, FLAX_VARIABLES = _flax_attention()


@program(Shared(FLAX_VARIABLES), WORDS, keys())
def attention_of_flax_with_dropout(variables, x, key):
    return FLAX_ATTENTION.apply(variables, x, deterministic=False, rngs={"dropout": key})


@program(rows(6, WIDTH))
def attention_block_by_block(x):
    """Go over keys in blocks, with a running maximum and sum."""
    blocks = jnp.moveaxis(x.reshape(x.shape[0], 3, 2, WIDTH), 1, 0)

    def add(carry, block):
        highest, total, output = carry
        scores = jnp.einsum("bqd,bkd->bqk", x, block)
        higher = jnp.maximum(highest, scores.max(-1))
        scale, part = jnp.exp(highest - higher), jnp.exp(scores - higher[..., None])
        total = total * scale + part.sum(-1)
        return (higher, total, output * scale[..., None] + part @ block), None

    start = jnp.full(x.shape[:2], -1e9), jnp.zeros(x.shape[:2]), jnp.zeros_like(x)
    (_, total, output), _ = jax.lax.scan(add, start, blocks)
    return output / total[..., None]


# --- caches -----------------------------------------------------------------------------------

CACHE = rows(LENGTH, WIDTH, seed=3)
TOKEN = rows(WIDTH, seed=4)


@program(CACHE, TOKEN, ids(below=LENGTH))
def cache_written_at_each_rows_place(cache, token, place):
    cache = cache.at[jnp.arange(cache.shape[0]), place].set(token)
    seen = jnp.arange(LENGTH) <= place[:, None]
    return attend(token[:, None], cache, cache, seen[:, None]), cache


@program(CACHE, TOKEN, ids(below=LENGTH))
def cache_updated_row_by_row(cache, token, place):
    update = jax.vmap(lambda row, new, at: jax.lax.dynamic_update_slice(row, new[None], (at, 0)))
    return update(cache, token, place)


@program(CACHE, TOKEN, Shared(jnp.int32(2)))
def cache_written_at_one_place(cache, token, place):
    return jax.lax.dynamic_update_slice(cache, token[:, None], (0, place, 0))


@program(CACHE, TOKEN, Steps(jnp.arange(TIME)))
def cache_written_at_the_steps_place(cache, token, step):
    cache = cache.at[:, step].set(token)
    seen = jnp.arange(LENGTH) <= step
    return attend(token[:, None], cache, cache, seen[None, None])


@program(CACHE, TOKEN, Steps(jnp.arange(TIME)))
def cache_updated_at_the_steps_place(cache, token, step):
    return jax.lax.dynamic_update_slice_in_dim(cache, token[:, None], step, 1)


@program(CACHE, Steps(jnp.arange(TIME)))
def entry_of_the_steps_place(cache, step):
    return cache[:, step], jax.lax.dynamic_slice_in_dim(cache, step, 2, 1)
