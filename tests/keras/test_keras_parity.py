"""The same weights give what Keras' TimeDistributed gives, under every strategy."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from answers import assert_same, draw, values_and_gradients
from flax import nnx
from keras_models import arrays_of, call
from parity_cases import BATCH, CASES

import tdjax

STRATEGIES = ("vmap", "fold", "map", "auto")


@functools.cache
def keras_answer(name):
    """Return the model's arrays, its input, its output, and the gradients of both."""
    model = CASES[name].keras()
    shape = (BATCH, *model.input_shape[1:])
    x = draw(shape)
    if model.input.dtype == "int32":
        x = (jnp.arange(np.prod(shape)) % 9).reshape(shape)
    arrays = arrays_of(model)
    return arrays, x, *values_and_gradients(functools.partial(call, model), arrays, x)


def assert_like_keras(name, run, copied):
    """Hold `run(variables, x)` to Keras' answers: the output, and the gradients of both."""
    arrays, x, output, (of_arrays, *of_x) = keras_answer(name)
    ours = values_and_gradients(run, copied(arrays), x)
    assert_same(ours, (output, [copied(of_arrays), *of_x]))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", CASES)
def test_linen(name, strategy):
    case = CASES[name]
    wrapper = tdjax.linen.TimeDistributed(case.linen, strategy=strategy)

    def run(variables, x):
        in_layer = {collection: {"layer": tree} for collection, tree in variables.items()}
        return wrapper.apply(in_layer, x)

    assert_like_keras(name, run, case.copied)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.nnx])
def test_nnx(name, strategy):
    case = CASES[name]
    wrapper = tdjax.nnx.TimeDistributed(case.nnx(nnx.Rngs(0)), strategy=strategy)
    graph, state = nnx.split(wrapper)

    def run(variables, x):
        filled = nnx.clone(state)
        nnx.replace_by_pure_dict(filled, {"layer": variables})
        return nnx.merge(graph, filled)(x)

    assert_like_keras(name, run, case.nnx_copied)
