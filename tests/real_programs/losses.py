"""Losses and scores, one a row."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from real_programs.book import ids, lengths, positive, program, rows

LOGITS = rows(7)
LABELS = ids(below=7)


@program(LOGITS, LABELS)
def cross_entropy(logits, labels):
    log = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log, labels[:, None], -1)[:, 0]


@program(LOGITS, LABELS)
def cross_entropy_by_index(logits, labels):
    return -jax.nn.log_softmax(logits)[jnp.arange(logits.shape[0]), labels]


@program(LOGITS, LABELS)
def focal_loss(logits, labels):
    p = jax.nn.softmax(logits)[jnp.arange(logits.shape[0]), labels]
    return -((1 - p) ** 2) * jnp.log(p)


@program(LOGITS, LABELS)
def smoothed_labels(logits, labels):
    target = 0.9 * jax.nn.one_hot(labels, 7) + 0.1 / 7
    return -(target * jax.nn.log_softmax(logits)).sum(-1)


@program(rows(5, 7), ids(5, below=7), lengths(5))
def perplexity_of_real_tokens(logits, tokens, lengths):
    batch, place = jnp.arange(logits.shape[0])[:, None], jnp.arange(5)
    log = jax.nn.log_softmax(logits)[batch, place, tokens]
    real = place < lengths[:, None]
    return jnp.exp(-(log * real).sum(-1) / real.sum(-1))


@program(LOGITS, LABELS)
def margin_of_the_label(logits, labels):
    batch = jnp.arange(logits.shape[0])
    others = logits.at[batch, labels].set(-jnp.inf)
    return jnp.maximum(0, 1 + others.max(-1) - logits[batch, labels])


@program(LOGITS, LABELS)
def rank_of_the_label(logits, labels):
    own = jnp.take_along_axis(logits, labels[:, None], -1)
    return (logits > own).sum(-1), jax.lax.top_k(logits, 3)[1] == labels[:, None]


@program(rows(4), rows(4, seed=1), rows(5, 4, seed=2))
def contrastive_with_own_negatives(anchor, positive, negatives):
    own = (anchor * positive).sum(-1, keepdims=True)
    others = jnp.einsum("bd,bnd->bn", anchor, negatives)
    return -jax.nn.log_softmax(jnp.concatenate([own, others], -1))[:, 0]


@program(rows(4), rows(4, seed=1), rows(4, seed=2))
def triplet_loss(anchor, near, far):
    distance = ((anchor - near) ** 2).sum(-1) - ((anchor - far) ** 2).sum(-1)
    return jax.nn.relu(distance + 0.2)


@program(rows(4, 4), rows(4, 4, seed=1))
def overlap_of_masks(logits, target):
    p, t = jax.nn.sigmoid(logits), (target > 0).astype(logits.dtype)
    return 1 - 2 * (p * t).sum((1, 2)) / (p.sum((1, 2)) + t.sum((1, 2)) + 1)


@program(positive(4), positive(4, seed=1))
def generalized_box_overlap(a, b):
    low, high = jnp.maximum(a[:, :2], b[:, :2]), jnp.minimum(a[:, 2:], b[:, 2:]) + 2
    shared = jnp.maximum(high - low, 0).prod(-1)
    union = (a[:, 2:] + 2 - a[:, :2]).prod(-1) + (b[:, 2:] + 2 - b[:, :2]).prod(-1) - shared
    return 1 - shared / union


@program(rows(6), rows(6, seed=1))
def transport_in_one_dimension(x, y):
    return jnp.abs(jnp.sort(x, -1) - jnp.sort(y, -1)).mean(-1)


@program(rows(4), rows(4, seed=1), positive(4, seed=2), positive(4, seed=3))
def divergence_of_normals(mean, other, scale, wide):
    ratio = scale / wide
    return (ratio**2 + ((mean - other) / wide) ** 2 - 1 - 2 * jnp.log(ratio)).sum(-1) / 2


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


@program(rows(5, 4), ids(5, below=2))
def contrastive_within_a_row(x, same):
    unit = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    scores = jnp.einsum("bid,bjd->bij", unit, unit) - 1e9 * jnp.eye(5)
    alike = (same[:, :, None] == same[:, None]) & ~jnp.eye(5, dtype=bool)
    log = jax.nn.log_softmax(scores, -1)
    return -jnp.where(alike, log, 0).sum((1, 2)) / jnp.maximum(alike.sum((1, 2)), 1)


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
