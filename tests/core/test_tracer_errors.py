"""Errors of JAX about traced values name the user's function and line, and the user's arguments."""

import functools
import inspect
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tdjax
from tdjax import Fold, Vmap

X = np.ones((2, 3, 4), np.float32)
MASK = np.ones((2, 3), bool)
PACKAGE = str(Path(tdjax.__file__).parent)
KEPT = []


def branches(frame):
    return frame if frame.sum() > 0 else -frame


def converts(frame):
    return frame * int(frame.sum())


def sizes(frame):
    return frame + jnp.zeros(frame.sum().astype(int)).sum()


def indexes(frame):
    return frame * [1.0, 2.0][frame.sum().astype(int)]


def takes_to_numpy(frame):
    return np.tanh(np.asarray(frame))


def leaks(frame):
    KEPT.append(frame.sum())
    return frame + KEPT[0]


STEPS = {
    branches: jax.errors.TracerBoolConversionError,
    converts: jax.errors.ConcretizationTypeError,
    sizes: TypeError,
    indexes: jax.errors.TracerIntegerConversionError,
    takes_to_numpy: jax.errors.TracerArrayConversionError,
    leaks: jax.errors.UnexpectedTracerError,
}


class Model:
    @tdjax.time_distributed
    def method(self, frame):
        return branches(frame) if frame.sum() > 0 else frame

    def __call__(self, frame):
        return frame if frame.sum() > 0 else -frame


class InLinen(nn.Module):
    @nn.compact
    def __call__(self, frame):
        self.variable("counters", "steps", jnp.zeros, ()).value += 1
        return frame if frame.sum() > 0 or self.is_initializing() else -frame


class InNnx(nnx.Module):
    def __call__(self, frame):
        return frame if frame.sum() > 0 else -frame


def raised(kind, call):
    """Return what an error of this kind says, which names no line of ours."""
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert PACKAGE not in message and "leaves" not in message
    return message


def line_of(function):
    return f"{__file__}:{inspect.getsourcelines(function)[1]}"


@pytest.mark.parametrize("strategy", ["auto", "map", "fold", Fold(4), "packed"], ids=str)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_they_name_the_step_and_its_argument(step, strategy):
    KEPT[:] = []
    if step is leaks:
        tdjax.time_distributed(step, strategy="map")(X)
    fun = tdjax.time_distributed(step, strategy=strategy)
    masked = {"mask": MASK} if strategy == "packed" else {}
    message = raised(STEPS[step], lambda: fun(X, **masked))
    assert f"{step.__name__} at {line_of(step)}" in message
    if step is not leaks:
        assert "the value of the argument frame" in message


@pytest.mark.parametrize("strategy", ["vmap", Vmap(remat=True)], ids=str)
def test_under_vmap_they_name_its_line_as_there(strategy):
    fun = tdjax.time_distributed(branches, strategy=strategy)
    for call in (lambda: fun(X), lambda: jax.jit(fun)(X), lambda: fun(X, mask=MASK)):
        message = raised(jax.errors.TracerBoolConversionError, call)
        assert f"{Path(__file__).name}:" in message and "branches" in message


@pytest.mark.parametrize(
    ("fun", "step"),
    [
        (Model().method, Model.method.__wrapped__),
        (tdjax.time_distributed(Model()), Model.__call__),
        (tdjax.time_distributed(functools.partial(branches)), branches),
        (tdjax.time_distributed(jax.jit(branches)), branches),
        (tdjax.time_distributed(tdjax.time_distributed(branches, in_axes=0, out_axes=0)), branches),
        (tdjax.nnx.TimeDistributed(InNnx()), InNnx.__call__),
        (tdjax.nnx.TimeDistributed(InNnx().__call__, strategy="fold"), InNnx.__call__),
        (tdjax.nnx.TimeDistributed(branches), branches),
        (lambda x: tdjax.explain(branches, x), branches),
    ],
    ids=[
        "method",
        "object",
        "partial",
        "jit",
        "decorated",
        "nnx",
        "nnx_method",
        "nnx_function",
        "explain",
    ],
)
def test_they_name_methods_and_whatever_is_called(fun, step):
    for call in (lambda: fun(X), lambda: jax.grad(lambda x: fun(x).sum())(X)):
        message = raised(jax.errors.TracerBoolConversionError, call)
        assert f"{step.__name__} at {line_of(step)}" in message


@pytest.mark.parametrize("options", [{"state": "carry"}, {"strategy": "map"}], ids=str)
def test_they_name_linen_modules(options):
    model = tdjax.linen.TimeDistributed(InLinen(), **options)
    variables = {"counters": {"layer": {"steps": jnp.zeros(())}}}

    def call():
        return model.apply(variables, X, mutable=["counters"])

    message = raised(jax.errors.TracerBoolConversionError, call)
    assert f"__call__ at {line_of(InLinen.__call__)}" in message


def test_they_name_the_leaf_of_an_argument():
    def step(weights, frame):
        return frame if weights["bias"].sum() > 0 else -frame

    fun = tdjax.time_distributed(step, in_axes=(None, 1), strategy="fold")
    weights = {"bias": jnp.ones(3), "kernel": jnp.ones(3)}
    message = raised(jax.errors.TracerBoolConversionError, lambda: fun(weights, X))
    assert "the value of the argument weights['bias']" in message
