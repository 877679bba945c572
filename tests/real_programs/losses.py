"""Losses and scores, one a row."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from real_programs.book import ids, lengths, program, rows

LOGITS = rows(7)
LABELS = ids(below=7)


@program(LOGITS, LABELS)
def cross_entropy(logits, labels):
    log = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log, labels[:, None], -1)[:, 0]


@program(rows(5, 7), ids(5, below=7), lengths(5))
def perplexity_of_real_tokens(logits, tokens, lengths):
    batch, place = jnp.arange(logits.shape[0])[:, None], jnp.arange(5)
    log = jax.nn.log_softmax(logits)[batch, place, tokens]
    real = place < lengths[:, None]
    return jnp.exp(-(log * real).sum(-1) / real.sum(-1))


@program(LOGITS, LABELS)
def rank_of_the_label(logits, labels):
    own = jnp.take_along_axis(logits, labels[:, None], -1)
    return (logits > own).sum(-1), jax.lax.top_k(logits, 3)[1] == labels[:, None]


@program(rows(5), rows(6, seed=1))
def dynamic_time_warping(x, y):
    cost = (x[:, :, None] - y[:, None]) ** 2

    def line(before, costs):
        def cell(left, parts):
            up, corner, here = parts
            paths = jnp.stack([left, up, corner])
            now = here - jax.nn.logsumexp(-paths, 0)
            return now, now

        start = jnp.full(x.shape[0], 1e3)
        _, rest = jax.lax.scan(cell, start, (before[:, 1:].T, before[:, :-1].T, costs.T))
        return jnp.concatenate([start[:, None], rest.T], 1), None

    start = jnp.full((x.shape[0], 7), 1e3).at[:, 0].set(0.0)
    return jax.lax.scan(line, start, jnp.moveaxis(cost, 1, 0))[0][:, -1]


@program(rows(6, 3), ids(2, below=6), ids(2, 3, below=6, seed=1))
def masked_prediction(x, masked, others):
    """Wav2Vec2: tell the hidden frame from other frames of the same sound."""
    batch = jnp.arange(x.shape[0])
    hidden = x.at[batch[:, None], masked].set(0.0)
    context = jnp.cumsum(hidden, 1)[batch[:, None], masked]
    true = x[batch[:, None], masked]
    false = x[batch[:, None, None], others]
    scores = jnp.einsum("bmd,bmnd->bmn", context, jnp.concatenate([true[:, :, None], false], 2))
    return -jax.nn.log_softmax(scores)[..., 0].mean(-1)
