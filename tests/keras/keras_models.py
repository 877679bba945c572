"""Keras models as pure functions of their arrays."""

from __future__ import annotations

import keras
import numpy as np


def build(shape, *layers, dtype="float32"):
    """Return a model of `layers` in a row, with arrays drawn anew, for inputs `(batch, *shape)`."""
    x = inputs = keras.Input(shape, dtype=dtype)
    for layer in layers:
        x = layer(x)
    return redrawn(keras.Model(inputs, x))


def redrawn(model):
    """Draw every array: what is initialised with zeros and ones could be left out unnoticed."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if len(variable.shape) == 1:  # biases, and variances, which have to be positive
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        else:
            fan_in = np.prod(variable.shape[:-1])
            variable.assign(rng.normal(0.0, fan_in**-0.5, variable.shape))
    return model


def arrays_of(model):
    """Return the arrays of every layer in Keras' order, by the layer's name."""
    found = {}
    for variable in model.variables:
        found.setdefault(_owner(variable), []).append(variable.value)
    return found


def call(model, arrays, x):
    """Run `model` in evaluation, with `arrays` in place of its own."""
    rest = {name: iter(values) for name, values in arrays.items()}
    given = {variable.path: next(rest[_owner(variable)]) for variable in model.variables}
    trainable = [given[variable.path] for variable in model.trainable_variables]
    others = [given[variable.path] for variable in model.non_trainable_variables]
    return model.stateless_call(trainable, others, x, training=False)[0]


def _owner(variable):
    return variable.path.split("/")[-2]
