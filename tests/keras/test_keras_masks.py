"""Masks as Keras defines them: what it does with one, and which setting here does the same."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax.numpy as jnp
import pytest
from answers import assert_same, draw, values_and_gradients
from copying import batch_norm, embedding, kernel_and_bias, lstm_cell, nest
from keras import Sequential, layers
from keras_models import arrays_of, redrawn

from tdjax.linen import TimeDistributed

STRATEGIES = ("vmap", "fold", "map", "auto")
BATCH, TIME, FEATURES = 3, 4, 5
LENGTHS = jnp.array([4, 1, 2])
MASK = jnp.arange(TIME) < LENGTHS[:, None]
DENSE = layers.TimeDistributed(layers.Dense(2, name="dense"))
DENSE.build((None, TIME, FEATURES))
redrawn(DENSE)
COPIED = nest(layer=kernel_and_bias(*arrays_of(DENSE)["dense"]))


def padded(value):
    return jnp.where(MASK[..., None], draw((BATCH, TIME, FEATURES)), value)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_keras_computes_masked_steps_like_the_others(strategy):
    """It zeroes nothing, no gradient either: `masked_output="keep"`."""
    x = padded(3.0)
    keras = values_and_gradients(lambda x: DENSE(x, mask=MASK), x)
    assert_same(keras, values_and_gradients(DENSE, x))
    keep = TimeDistributed(nn.Dense(2), strategy=strategy, masked_output="keep")
    assert_same(values_and_gradients(lambda x: keep.apply(COPIED, x, mask=MASK), x), keras)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_zero_is_keras_output_times_the_mask(strategy):
    x = padded(3.0)
    keras = values_and_gradients(lambda x: DENSE(x, mask=MASK) * MASK[..., None], x)
    zero = TimeDistributed(nn.Dense(2), strategy=strategy)
    assert_same(values_and_gradients(lambda x: zero.apply(COPIED, x, mask=MASK), x), keras)


def test_what_follows_a_masked_step_in_keras_skips_it():
    """Masking, TimeDistributed, LSTM: the mask goes on to the LSTM, which steps over padding."""
    masking, lstm = layers.Masking(mask_value=-1.0), redrawn_layer(layers.LSTM(4), (None, TIME, 2))
    memory = nest(cell=lstm_cell(*arrays_of(lstm)["lstm_cell"]))
    x = padded(-1.0)
    keras = values_and_gradients(lambda x: lstm(DENSE(masking(x))), x)

    def run(masked_output, x):
        features = TimeDistributed(nn.Dense(2), masked_output=masked_output)
        recurrent = nn.RNN(nn.OptimizedLSTMCell(4), return_carry=True)
        hidden = features.apply(COPIED, x, mask=(x != -1.0).any(-1))
        return recurrent.apply(memory, hidden, seq_lengths=LENGTHS)[0][1]

    for masked_output in ("keep", "zero"):
        assert_same(values_and_gradients(functools.partial(run, masked_output), x), keras)


def test_embedding_with_mask_zero():
    words = jnp.where(MASK, draw((BATCH, TIME)).view("int32") % 8 + 1, 0)
    table = redrawn_layer(layers.Embedding(9, FEATURES, mask_zero=True, name="table"), (None, TIME))
    keras = DENSE(table(words))
    assert not (keras[1, -1] == 0).any()  # the word 0 is a row of the table, and has a bias too

    def run(masked_output):
        features = TimeDistributed(nn.Dense(2), masked_output=masked_output)
        vectors = nn.Embed(9, FEATURES).apply(embedding(*arrays_of(table)["table"]), words)
        return features.apply(COPIED, vectors, mask=words != 0)

    assert_same(run("keep"), keras)
    assert_same(run("zero"), keras * MASK[..., None])


class LastState(nn.Module):
    """What an LSTM remembers of each row's real part."""

    @nn.compact
    def __call__(self, x, mask):  # (batch, inner, features), (batch, inner)
        states = nn.RNN(nn.OptimizedLSTMCell(4, name="cell"))(x)
        last = jnp.maximum(mask.sum(-1) - 1, 0)
        return jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]


def test_a_mask_of_more_axes_is_the_layers_own():
    """Given to the wrapper or made inside the step: Keras gives the same, and so does tdjax."""
    inner = 3
    lengths = jnp.where(MASK, jnp.arange(BATCH * TIME).reshape(BATCH, TIME) % inner + 1, 0)
    mask = jnp.arange(inner) < lengths[..., None]  # (batch, time, inner), some steps without any
    x = jnp.where(mask[..., None], draw((BATCH, TIME, inner, FEATURES)), 0.0)
    lstm = redrawn_layer(layers.LSTM(4), (None, inner, FEATURES))
    outside = layers.TimeDistributed(lstm)
    keras = values_and_gradients(lambda x: outside(x, mask=mask), x)
    inside = layers.TimeDistributed(Sequential([layers.Masking(), lstm]))
    assert_same(values_and_gradients(inside, x), keras)
    assert not keras[0][1, 1:].any()  # nothing seen, nothing remembered

    variables = nest(layer=nest(cell=lstm_cell(*arrays_of(lstm)["lstm_cell"])))
    for strategy in ("vmap", "fold"):
        wrapper = TimeDistributed(LastState(), strategy=strategy)
        run = functools.partial(wrapper.apply, variables, mask=mask)
        assert_same(values_and_gradients(run, x), keras)


def test_a_mask_that_keras_makes_inside_a_step_stays_there():
    """TimeDistributed(Embedding(mask_zero=True)) masks nothing that follows it."""
    words = jnp.array([[[3, 1, 0], [2, 0, 0]]])
    table = redrawn_layer(layers.Embedding(9, FEATURES, mask_zero=True, name="table"), (None, 3))
    mean = layers.TimeDistributed(layers.GlobalAveragePooling1D())
    keras = mean(layers.TimeDistributed(table)(words))
    vectors = TimeDistributed(nn.Embed(9, FEATURES))
    vectors = vectors.apply(nest(layer=embedding(*arrays_of(table)["table"])), words)
    assert_same(TimeDistributed(lambda step: step.mean(1)).apply({}, vectors), keras)


def test_batch_norm_in_training_normalises_each_step_in_keras():
    """`pooled=False` does; but Keras updates its running values once a step, not once a call."""
    x = draw((BATCH, TIME, FEATURES))
    norm = redrawn_layer(layers.BatchNormalization(momentum=0.8, name="norm"), (None, FEATURES))
    before = batch_norm(*arrays_of(norm)["norm"])
    over_time = layers.TimeDistributed(norm)
    keras = over_time(x, training=True)
    after = batch_norm(*arrays_of(norm)["norm"])["batch_stats"]

    step = nn.BatchNorm(use_running_average=False, momentum=0.8, epsilon=1e-3)
    wrapper = TimeDistributed(step, pooled=False)
    ours, _ = wrapper.apply(nest(layer=before), x, mutable=["batch_stats"])
    assert_same(ours, keras)

    one_by_one = before
    for t in range(TIME):
        _, updates = step.apply(one_by_one, x[:, t], mutable=["batch_stats"])
        one_by_one = {**before, **updates}
    assert_same(one_by_one["batch_stats"], after)


def redrawn_layer(layer, shape):
    layer.build(shape)
    return redrawn(layer)
