"""Steps inside of a Haiku transform: pure ones work, others are refused by name."""

from __future__ import annotations

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tdjax import time_distributed

KEY = jax.random.key(0)
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 24


@pytest.fixture(autouse=True)
def promotion():
    """Let layers of others broadcast."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


class Encoder(hk.Module):
    """Distributes a method of itself, which reads a parameter."""

    def __call__(self, x):
        return time_distributed(self.encode)(x)

    def encode(self, step):
        return step * hk.get_parameter("scale", [4], init=jnp.ones)


def over_time(fun):
    return lambda: time_distributed(fun)(X)


def drawing(step):
    return step * jax.random.normal(hk.next_rng_key(), step.shape)


def drawing_what_is_reserved():
    hk.reserve_rng_keys(4)
    return time_distributed(drawing)(X)


def calling_a_module_made_outside():
    layer = hk.Linear(3)
    layer(X[:, 0])
    return time_distributed(lambda step: layer(step))(X)


def lifting_inside():
    pure = hk.transform(lambda step: hk.Linear(3)(step))
    return time_distributed(lambda x: pure.apply(hk.lift(pure.init)(KEY, x), None, x))(X)


def storing(step):
    hk.set_state("last", step.sum())
    return step


REACHING = {
    "makes a module": (over_time(lambda step: hk.Linear(3)(step)), "module Linear"),
    "makes one without parameters": (over_time(lambda step: hk.Flatten()(step)), "module Flatten"),
    "calls a module": (calling_a_module_made_outside, "module Linear"),
    "is a method": (lambda: Encoder()(X), "module Encoder"),
    "lifts": (lifting_inside, "module LiftingModule"),
    "parameter": (
        over_time(lambda step: step * hk.get_parameter("w", [4], init=jnp.ones)),
        "parameter or state ~/w",
    ),
    "reads state": (
        over_time(lambda step: step * hk.get_state("s", [4], init=jnp.ones)),
        "parameter or state ~/s",
    ),
    "writes state": (over_time(storing), "parameter or state ~/last"),
    "keys": (over_time(drawing), "hk.next_rng_key"),
    "reserved keys": (drawing_what_is_reserved, "hk.next_rng_key"),
}


@pytest.mark.parametrize(("fun", "reached"), REACHING.values(), ids=REACHING)
def test_what_reaches_the_transform_around_is_refused(fun, reached):
    transformed = hk.transform_with_state(fun)
    found = {"w": X[0, 0], "scale": X[0, 0], "s": X[0, 0]}
    params = {"~": found, "encoder": found, "linear": {"w": np.ones((4, 3)), "b": np.ones(3)}}
    for call in (
        lambda: transformed.init(KEY),
        lambda: transformed.apply(params, {"~": found}, KEY),
    ):
        with pytest.raises(TypeError, match=r"Haiku.*hk\.lift\(step\.init\).*step\.apply") as error:
            jax.eval_shape(call)
        assert reached in str(error.value)


@pytest.mark.parametrize("strategy", ["auto", "vmap", "unroll"])
def test_strategies_do_not_matter(strategy):
    def network():
        return time_distributed(lambda step: hk.Linear(3)(step), strategy=strategy)(X)

    with pytest.raises(TypeError, match="module Linear of the Haiku transform"):
        jax.eval_shape(hk.transform(network).init, KEY)


def test_the_recipe_is_the_loop_and_makes_one_set_of_parameters():
    def step(x):
        return jnp.tanh(hk.Linear(3)(x))

    def network(x, distributed):
        pure = hk.transform(step)
        params = hk.lift(pure.init, name="steps")(hk.next_rng_key(), x[:, 0])
        if distributed:
            return time_distributed(pure.apply, in_axes=(None, None, 1))(params, None, x)
        return jnp.stack([pure.apply(params, None, x[:, t]) for t in range(3)], axis=1)

    transformed = hk.transform(network)
    params = transformed.init(KEY, X, True)
    assert jax.tree.map(np.shape, params) == {"steps/linear": {"w": (4, 3), "b": (3,)}}

    @functools.partial(jax.jit, static_argnums=1)
    def run(params, distributed):
        return jax.value_and_grad(
            lambda given: (transformed.apply(given, KEY, X, distributed) ** 2).sum()
        )(params)

    pairs = zip(*map(jax.tree.leaves, (run(params, True), run(params, False))), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def reading(x):
    weights = hk.get_parameter("w", [4, 2], init=jnp.ones)
    return time_distributed(lambda step: step @ weights)(x)


def asking(x):
    return time_distributed(lambda step: step * 2 if hk.running_init() else step)(x)


def without_keys(x):
    return time_distributed(lambda step: step if hk.maybe_next_rng_key() is None else 0 * step)(x)


@pytest.mark.parametrize(("fun", "expected"), [(reading, X @ np.ones((4, 2))), (asking, X)])
def test_pure_functions_inside_of_a_transform_work(fun, expected):
    transformed = hk.transform(fun)
    np.testing.assert_allclose(transformed.apply(transformed.init(KEY, X), KEY, X), expected)


def test_a_step_that_does_without_keys_sees_that_there_are_none():
    np.testing.assert_allclose(hk.transform(without_keys).apply({}, None, X), X)


def test_the_transform_around_is_as_it_was():
    def network(x):
        before = hk.get_params(), hk.get_current_state()
        time_distributed(jnp.sin)(x)
        assert before == (hk.get_params(), hk.get_current_state())
        return hk.Linear(2)(x)

    shapes = jax.eval_shape(hk.transform(network).init, KEY, X)
    assert list(shapes) == ["linear"]


def test_an_error_of_the_step_passes_as_it_is():
    def failing(step):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as error:
        time_distributed(failing)(X)
    assert error.value.__context__ is None
