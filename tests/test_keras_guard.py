"""Keras layers in a step: what only reads variables works, what changes them is refused by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from tdjax import time_distributed

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 24


@pytest.fixture(autouse=True)
def promotion():
    """Let layers of others broadcast."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def built(layer):
    layer.build((2, 4))
    return layer


class Counter(keras.layers.Layer):
    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


class Penalty(keras.layers.Layer):
    def call(self, x):
        self.add_loss(keras.ops.sum(x))
        return x


def measuring(metric):
    def step(x):
        metric.update_state(x)
        return x

    return step


def training(layer):
    return lambda step: layer(step, training=True)


SEEDS = keras.random.SeedGenerator(3)
CHANGING = {
    "batch statistics": (training(built(keras.layers.BatchNormalization())), "moving_mean"),
    "dropout": (training(keras.layers.Dropout(0.5, seed=1)), "seed_generator_state"),
    "noise": (training(keras.layers.GaussianNoise(0.5)), "seed_generator_state"),
    "a seed generator": (lambda x: x + keras.random.normal(x.shape, seed=SEEDS), "seed_generator"),
    "a counter": (built(Counter()), "counter"),
    "a metric": (measuring(keras.metrics.Mean()), "mean/total"),
    "a loss": (built(Penalty()), "adds a loss"),
    "a regularizer": (built(keras.layers.Dense(3, activity_regularizer="l2")), "adds a loss"),
    "a layer that is not built": (keras.layers.Dense(3), "kernel"),
    "a layer made inside": (lambda x: keras.layers.Dense(3)(x), "kernel"),
    "a model": (
        training(built(keras.Sequential([keras.layers.Dense(3), keras.layers.Dropout(0.2)]))),
        "seed_generator_state",
    ),
}


@pytest.mark.parametrize(("step", "changed"), CHANGING.values(), ids=CHANGING)
@pytest.mark.parametrize("transform", [lambda fun: fun, jax.jit], ids=["eager", "jit"])
def test_a_step_that_changes_a_layer_is_refused(step, changed, transform):
    if changed == "kernel" and transform is jax.jit:
        step = keras.layers.Dense(3)
    with pytest.raises(TypeError, match="Keras") as error:
        transform(time_distributed(lambda x: step(x)))(X)
    assert changed in str(error.value) and "stateless_call" in str(error.value)
    for variable in getattr(step, "variables", ()):
        assert not isinstance(variable.value, jax.core.Tracer)


NORM = built(keras.layers.BatchNormalization())
READING = {
    "dense": built(keras.layers.Dense(3)),
    "batch statistics": lambda step: NORM(step, training=False),
    "dropout": keras.layers.Dropout(0.5),
    "operations": keras.ops.relu,
    "stateless": lambda step: NORM.stateless_call(
        NORM.trainable_variables, NORM.non_trainable_variables, step, training=True
    )[0],
}


@pytest.mark.parametrize("step", READING.values(), ids=READING)
def test_a_step_that_reads_variables_is_the_loop(step):
    expected = np.stack([step(X[:, t]) for t in range(3)], axis=1)
    np.testing.assert_allclose(jax.jit(time_distributed(step))(X), expected, rtol=1e-5, atol=1e-6)


def test_inside_of_a_keras_layer_the_weights_are_those_of_the_call():
    class Outer(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = built(keras.layers.Dense(3, use_bias=False))
            self.norm = keras.layers.BatchNormalization()
            self.norm.build((2, 3))

        def call(self, x, training=False):
            return time_distributed(lambda step: self.norm(self.dense(step), training=training))(x)

    outer = built(Outer())
    kernel, *others = (variable.value for variable in outer.trainable_variables)
    state = outer.non_trainable_variables

    def double(kernel):
        return outer.stateless_call([2 * kernel, *others], state, X)[0]

    np.testing.assert_allclose(jax.jit(double)(kernel), 2 * np.asarray(outer(X)), rtol=1e-5)
    with pytest.raises(TypeError, match="Keras variable"):
        outer.stateless_call([kernel, *others], state, X, training=True)
    assert not jnp.any(outer.norm.moving_mean.value)
