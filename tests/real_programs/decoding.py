"""Decoding, beams, and reinforcement learning: steps that choose."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from real_programs.book import ids, lengths, needless, program, rows, weights

BEAMS, VOCABULARY = 3, 5


@program(rows(7), ids(below=7))
def value_of_the_chosen_action(values, action):
    return values[jnp.arange(values.shape[0]), action]


@program(rows(7), rows(7, seed=1), ids(below=7), rows(seed=2))
def double_q_learning(values, target, action, reward):
    batch = jnp.arange(values.shape[0])
    error = values[batch, action] - (reward + 0.9 * target[batch, values.argmax(-1)])
    return error, error**2


@program(rows(9))
def discounted_returns(rewards):
    def combine(later, now):
        return later[0] * now[0], later[1] * now[0] + now[1]

    decay = jnp.full_like(rewards, 0.9)
    return jax.lax.associative_scan(combine, (decay, rewards), reverse=True, axis=1)[1]


@program(rows(6, 4), ids(6, below=9, first=1))
def pooled_at_the_highest_token(x, tokens):
    """CLIP's text encoder: the end of a text has the highest number."""
    return x[jnp.arange(x.shape[0]), tokens.argmax(-1)]


@program(rows(BEAMS, 4), ids(2 * BEAMS, below=BEAMS))
def beams_gathered_by_flat_numbers(state, parents):
    """Flax' way: numbers of all beams of a batch, divided again."""
    size = parents.shape[1]
    batch = jnp.reshape(jnp.arange(state.shape[0] * size) // size, (state.shape[0], size))
    return state[batch, parents]


@program(rows(BEAMS), rows(BEAMS, VOCABULARY, seed=1), rows(BEAMS, 4, seed=2))
def beam_search_step(scores, logits, state):
    totals = (scores[..., None] + jax.nn.log_softmax(logits)).reshape(scores.shape[0], -1)
    best, where = jax.lax.top_k(totals, BEAMS)
    parents, tokens = where // VOCABULARY, where % VOCABULARY
    batch = jnp.arange(scores.shape[0])[:, None]
    return best, tokens, state[batch, parents]


@program(
    rows(BEAMS, 4),
    ids(BEAMS, below=BEAMS),
    expected=needless(
        "a place in a flattened array is a sum of the row's number and data: whether it stays in "
        "the row depends on the data (write `state[jnp.arange(batch)[:, None], parents]`)"
    ),
)
def beams_gathered_from_a_flat_batch(state, parents):
    flat = state.reshape(-1, 4)
    return flat[(jnp.arange(state.shape[0])[:, None] * BEAMS + parents).reshape(-1)]


@program(rows(4), weights(4, 6), weights(6, 4))
def decoding_into_a_buffer(state, readout, table):
    batch = jnp.arange(state.shape[0])

    def decode(i, carry):
        state, tokens, count = carry
        token = (state @ readout).argmax(-1)
        tokens = tokens.at[batch, count].set(token)
        return jnp.tanh(state + table[token]), tokens, count + (token != 0)

    start = state, jnp.full((state.shape[0], 5), -1), jnp.zeros(state.shape[0], jnp.int32)
    return jax.lax.fori_loop(0, 5, decode, start)


@program(rows(6, 4), weights(4, 4), lengths(6))
def viterbi(emissions, transitions, lengths):
    def forward(score, parts):
        emission, i = parts
        paths = score[:, :, None] + transitions
        after = jnp.where((i < lengths)[:, None], paths.max(1) + emission, score)
        return after, paths.argmax(1)

    steps = jnp.moveaxis(emissions[:, 1:], 1, 0), jnp.arange(1, 6)
    score, parents = jax.lax.scan(forward, emissions[:, 0], steps)

    def backward(tag, parts):
        parents, i = parts
        tag = jnp.where(i < lengths, parents[jnp.arange(tag.shape[0]), tag], tag)
        return tag, tag

    last = score.argmax(-1)
    _, tags = jax.lax.scan(backward, last, (parents, jnp.arange(1, 6)), reverse=True)
    return score.max(-1), tags.T


@program(rows(6, 4), weights(4, 4), ids(6, below=4))
def conditional_random_field(emissions, transitions, tags):
    batch = jnp.arange(tags.shape[0])

    def forward(score, emission):
        paths = score[:, :, None] + transitions + emission[:, None]
        return jax.nn.logsumexp(paths, 1), None

    score, _ = jax.lax.scan(forward, emissions[:, 0], jnp.moveaxis(emissions[:, 1:], 1, 0))
    path = emissions[batch[:, None], jnp.arange(6), tags].sum(1)
    path = path + transitions[tags[:, :-1], tags[:, 1:]].sum(1)
    return jax.nn.logsumexp(score, -1) - path


@program(rows(8, VOCABULARY), ids(3, below=VOCABULARY, first=1), lengths(8))
def connectionist_temporal_classification(logits, labels, lengths):
    batch = jnp.arange(logits.shape[0])
    extended = jnp.zeros((logits.shape[0], 7), jnp.int32).at[:, 1::2].set(labels)
    skips = jnp.concatenate(
        [jnp.zeros((logits.shape[0], 2), bool), extended[:, 2:] != extended[:, :-2]], 1
    )
    skips = skips & (extended != 0)
    log = jax.nn.log_softmax(logits)

    def forward(alpha, parts):
        frame, i = parts
        shifted = jnp.pad(alpha, ((0, 0), (2, 0)), constant_values=-1e9)
        paths = jnp.stack([alpha, shifted[:, 1:-1], jnp.where(skips, shifted[:, :-2], -1e9)])
        after = jax.nn.logsumexp(paths, 0) + frame[batch[:, None], extended]
        return jnp.where((i < lengths)[:, None], after, alpha), None

    start = (
        jnp.full((logits.shape[0], 7), -1e9)
        .at[:, :2]
        .set(jnp.take_along_axis(log[:, 0], extended[:, :2], 1))
    )
    frames = jnp.moveaxis(log[:, 1:], 1, 0), jnp.arange(1, 8)
    alpha, _ = jax.lax.scan(forward, start, frames)
    return -jax.nn.logsumexp(alpha[:, -2:], -1)


@program(rows(6, 4), rows(6, seed=1))
def suppressed_boxes(boxes, scores):
    """Go over boxes by their score, and drop those that overlap with a better one."""
    batch = jnp.arange(boxes.shape[0])[:, None]
    order = jnp.argsort(-scores, -1)
    boxes = boxes[batch, order]
    low, high = boxes[..., :2], boxes[..., :2] + jnp.abs(boxes[..., 2:])
    shared = jnp.minimum(high[:, :, None], high[:, None]) - jnp.maximum(
        low[:, :, None], low[:, None]
    )
    overlap = jnp.maximum(shared, 0).prod(-1)

    def drop(i, kept):
        worse = (jnp.arange(6) > i) & (overlap[:, i] > 0.1)
        return kept & ~(worse & kept[:, i, None])

    kept = jax.lax.fori_loop(0, 6, drop, jnp.ones(scores.shape, bool))
    return jnp.zeros_like(kept).at[batch, order].set(kept)


@program(rows(5, 5), ids(below=5))
def tree_search_backup(statistics, leaf):
    """Add one to a leaf and to what lies above it, up to three levels."""
    batch = jnp.arange(statistics.shape[0])

    def up(_, carry):
        node, statistics = carry
        statistics = statistics.at[batch, node, 0].add(1.0)
        return node // 2, statistics

    return jax.lax.fori_loop(0, 3, up, (leaf, statistics))[1]
