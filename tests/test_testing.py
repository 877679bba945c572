"""`tdjax.testing`: what is the loop passes, what is not is named, down to the step and the row."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array
from flax import nnx

import tdjax
from tdjax.testing import assert_row_independent, assert_same_as_loop

X = array(3, 4, 5)
MASK = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0]], bool)
CARELESS = tdjax.Fold(assume_independent=True)


@pytest.fixture(autouse=True)
def promotion_of_users(strict_promotion):
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def centered(x):
    return x - x.mean(0)


@jax.custom_vjp
def leaky(x):
    return jnp.sin(x)


leaky.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * x.sum(0),))


def two(x, scale):
    return {"y": x * scale, "z": (x > 0).sum(-1), "n": None}


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        return nn.Dropout(0.5, deterministic=not train)(nn.Dense(3)(x))


class Masked(nn.Module):
    @nn.compact
    def __call__(self, x, mask=None):
        return nn.Dense(3)(x) * (1.0 if mask is None else 1.0 + mask[:, None])


class Summed(nn.Module):
    @nn.compact
    def __call__(self, tree):
        return {"sum": nn.Dense(3)(tree["a"]) + nn.Dense(3)(tree["b"])}


class NnxNoisy(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.dense, self.dropout = nnx.Linear(5, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.dense(x))

    def halves(self, x):
        return self.dense(x) / 2


def no_gradient_at_zero(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


PASS = {
    "function": lambda: assert_same_as_loop(jnp.tanh, X),
    "mixing": lambda: assert_same_as_loop(centered, X),
    "tree": lambda: assert_same_as_loop(two, X, array(5), in_axes=(1, None)),
    "time first": lambda: assert_same_as_loop(jnp.tanh, X, in_axes=0, out_axes=-1),
    "kwargs": lambda: assert_same_as_loop(two, X, kwargs={"scale": 2.0}),
    "wrapped": lambda: assert_same_as_loop(
        tdjax.time_distributed(jnp.dot, in_axes=(1, None), out_axes=0), X, array(5, 2)
    ),
    "masked": lambda: assert_same_as_loop(
        no_gradient_at_zero, jnp.where(MASK[..., None], X, 0), mask=MASK
    ),
    "masked, mixing": lambda: assert_same_as_loop(centered, X, mask=MASK),
    "lengths": lambda: assert_same_as_loop(jnp.sin, X, seq_lengths=np.array([4, 0, 2])),
    "kept": lambda: assert_same_as_loop(jnp.sin, X, mask=MASK, masked_output="keep"),
    "rows last": lambda: assert_same_as_loop(lambda x: x.T * 2, X, mask=MASK),
    "no gradient": lambda: assert_same_as_loop(leaky, X, gradients=False),
    "named": lambda: assert_same_as_loop(jnp.sin, X, strategies=["fold", "Fold(4, unroll)"]),
    "keys": lambda: assert_same_as_loop(
        lambda x, key: x + jax.random.normal(key, x.shape, x.dtype),
        X,
        jax.random.split(jax.random.key(0), 4),
        in_axes=(1, 0),
    ),
    "numbers": lambda: assert_same_as_loop(lambda x: x * 2 - 1, jnp.arange(6).reshape(2, 3)),
    "complex": lambda: assert_same_as_loop(jnp.sin, X + 1j * X),
    "bfloat16": lambda: assert_same_as_loop(
        lambda x, w: jnp.tanh(x @ w),
        X.astype(jnp.bfloat16),
        array(5, 2, dtype=jnp.bfloat16),
        in_axes=(1, None),
    ),
    "NumPy": lambda: assert_same_as_loop(jnp.tanh, np.asarray(X)),
    "Linen": lambda: assert_same_as_loop(nn.Dense(3), X),
    "Linen, wrapped": lambda: assert_same_as_loop(
        tdjax.linen.TimeDistributed(nn.Dense(3), strategy="fold", out_axes=0), X
    ),
    "Linen, variables": lambda: assert_same_as_loop(
        nn.Dense(2), X, variables={"params": {"kernel": array(5, 2), "bias": array(2)}}
    ),
    "Linen, variables first": lambda: assert_same_as_loop(
        nn.Dense(2, use_bias=False), {"params": {"kernel": array(5, 2)}}, X
    ),
    "Linen, trees": lambda: assert_same_as_loop(
        Summed(), {"a": X, "b": X[:, 0]}, in_axes=({"a": 1, "b": None},), out_axes={"sum": 0}
    ),
    "Linen, noise": lambda: assert_same_as_loop(Noisy(), X, kwargs={"train": True}),
    "Linen, one noise": lambda: assert_same_as_loop(Noisy(), X, rng="shared"),
    "Linen, mask": lambda: assert_same_as_loop(Masked(), X, mask=MASK),
    "Linen, statistics": lambda: assert_same_as_loop(
        nn.BatchNorm(use_running_average=False), X, pooled=False
    ),
    "NNX": lambda: assert_same_as_loop(nnx.Linear(5, 3, rngs=nnx.Rngs(0)), X),
    "NNX, noise": lambda: assert_same_as_loop(NnxNoisy(), X, seq_lengths=np.array([4, 0, 2])),
    "NNX, wrapped": lambda: assert_same_as_loop(
        tdjax.nnx.TimeDistributed(NnxNoisy().halves, in_axes=0, out_axes=0), X
    ),
    "rows": lambda: assert_row_independent(no_gradient_at_zero, X),
    "rows, shared": lambda: assert_row_independent(jnp.dot, X, array(5, 2), in_axes=(1, None)),
    "rows last, proof": lambda: assert_row_independent(lambda x: x.T * 2, X),
    "rows, whole numbers": lambda: assert_row_independent(
        lambda table, i: table[i], array(9, 2), jnp.arange(6).reshape(2, 3), in_axes=(None, 1)
    ),
    "rows, Linen": lambda: assert_row_independent(nn.Dense(3), X),
    "rows, NNX": lambda: assert_row_independent(nnx.Linear(5, 3, rngs=nnx.Rngs(0)), X),
}


@pytest.mark.parametrize("name", PASS)
def test_what_is_the_loop_passes(name):
    assert PASS[name]() is None


def other_values(x):
    return jnp.where(jnp.arange(x.shape[0])[:, None] == 1, x + 0.25 * (x.shape[0] > 3), x)


FAIL = {
    "values": (
        lambda: assert_same_as_loop(other_values, jnp.zeros((3, 4, 5)), strategies=[CARELESS]),
        r"other_values, under Fold\(assume_independent=True\), is not the loop:\n"
        r"  output \(float32\[3,4,5\]\) differs in 5 of 60 elements, most at \[0, 1, 0\], step 1, "
        r"row 0:\n    loop 0, strategy 0.25, difference 0.25, allowed 3.81e-06$",
    ),
    "leaf": (
        lambda: assert_same_as_loop(
            lambda x: {"a": x, "b": [x.sum(0)[None] + x]}, X, strategies=[CARELESS]
        ),
        r"output\['b'\]\[0\] \(float32\[3,4,5\]\) differs in \d+ of 60",
    ),
    "gradient": (
        lambda: assert_same_as_loop(leaky, X, strategies=[CARELESS]),
        r"is not the loop:\n  gradient of x \(float32\[3,4,5\]\) differs in .*, step \d, row \d:",
    ),
    "whole numbers": (
        lambda: assert_same_as_loop(
            lambda x: x + x.shape[0], jnp.ones((2, 3), int), strategies=[CARELESS]
        ),
        r"differs in 6 of 6 elements, most at \[0, 0\], step 0, row 0:\n    loop 3, strategy 7,",
    ),
    "shape": (
        lambda: assert_same_as_loop(
            lambda x: jnp.zeros((x.shape[0], x.shape[0] // 7 + 1)), X, strategies=[CARELESS]
        ),
        r"output is float32\[3,4,2\], the loop's is float32\[3,4,1\]",
    ),
    "tolerance": (
        lambda: assert_same_as_loop(
            lambda x: x * (1 + 1e-3 * x.shape[0]), X, strategies=[CARELESS], tolerance=1e-4
        ),
        r"differs in 59 of 60",
    ),
    "layer": (
        lambda: assert_same_as_loop(nn.BatchNorm(use_running_average=False), X, strategies="fold"),
        r"BatchNorm, under 'fold', is not the loop:",
    ),
    "rows": (
        lambda: assert_row_independent(centered, X),
        r"(?s)centered is not proven to be row independent: `reduce_sum`.*\n"
        r"Rows do depend on each other: with row 0 of step 0 changed \(and no other\),\n"
        r"  output \(float32\[3,5\]\) differs in 10 of 10 elements of other rows, most at .*, "
        r"row [12]:\n    before .*, after .*, difference .*, allowed .*$",
    ),
    "rows, gradient": (
        lambda: assert_row_independent(leaky, X),
        r"(?s)leaky is not proven.*derivative rule.*\n  gradient of x \(float32\[3,5\]\) differs",
    ),
    "rows, not seen": (
        lambda: assert_row_independent(lambda x: jax.lax.sort(x[::-1][::-1], dimension=1), X),
        r"(?s)is not proven.*\nChanging one row at a time changed no other: they may be",
    ),
}


@pytest.mark.parametrize("name", FAIL)
def test_what_is_not_the_loop_is_named(name):
    check, message = FAIL[name]
    with pytest.raises(AssertionError, match=message):
        check()


def test_a_looser_tolerance_lets_it_pass():
    def slightly(x):
        return x * (1 + 1e-3 * x.shape[0])

    assert_same_as_loop(slightly, X, strategies=[CARELESS], tolerance=0.1)
    assert_same_as_loop(slightly, X, strategies=[CARELESS], tolerance={"float32": 0.1})


def test_a_function_that_is_not_pure_contradicts_its_proof():
    calls = []

    def step(x):
        calls.append(x)
        return jnp.sin(x) if len(calls) < 3 else x - x.mean(0)  # each trace sees another function

    with pytest.raises(AssertionError, match=r"(?s)is proven .* but with row .* please report it"):
        assert_row_independent(step, X)


def test_a_strategy_that_is_named_and_refuses_raises():
    with pytest.raises(tdjax.StrategyError, match="cannot be folded"):
        assert_same_as_loop(centered, X, strategies=["vmap", "fold"])


BAD = {
    "class": (lambda: assert_same_as_loop(nn.Dense, X), TypeError, "instance of a Flax module"),
    "no function": (lambda: assert_row_independent(3, X), TypeError, "got 3; give a step function"),
    "option": (lambda: assert_same_as_loop(jnp.sin, X, axes=1), TypeError, "no option 'axes' here"),
    "strategy": (lambda: assert_same_as_loop(jnp.sin, X, strategies=["fole"]), ValueError, "fole"),
    "none": (lambda: assert_same_as_loop(jnp.sin, X, strategies=[]), ValueError, "is empty"),
    "no steps": (lambda: assert_same_as_loop(jnp.sin, X[:, :0]), ValueError, "has no steps"),
    "one row": (lambda: assert_row_independent(jnp.sin, X[:1]), ValueError, "give at least 2"),
    "axis name": (
        lambda: assert_same_as_loop(tdjax.time_distributed(jnp.sin, axis_name="t"), X),
        ValueError,
        "axis_name joins steps",
    ),
    "pooled": (
        lambda: assert_same_as_loop(tdjax.time_distributed(jnp.sin, pooled=True), X),
        ValueError,
        "pooled joins steps",
    ),
    "layer": (
        lambda: assert_same_as_loop(nnx.Linear(5, 3, rngs=nnx.Rngs(0)), jnp.ones(3), jnp.ones(2)),
        ValueError,
        "^inputs is",
    ),
    "layer's axes": (
        lambda: assert_same_as_loop(nn.Dense(3), X, variables={"params": {}}, in_axes=((1, 1),)),
        ValueError,
        "^for Dense, .* where inputs has one array",
    ),
    "rank": (lambda: assert_same_as_loop(jnp.sin, jnp.ones(3)), ValueError, "it has no axis 1"),
    "both masks": (
        lambda: assert_same_as_loop(jnp.sin, X, mask=MASK, seq_lengths=np.ones(3, int)),
        ValueError,
        "both given",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_said(name):
    check, error, message = BAD[name]
    with pytest.raises(error, match=message):
        check()


def test_an_error_of_the_function_passes_through():
    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        assert_same_as_loop(broken, X)


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(), nn.GroupNorm(2), nnx.RMSNorm(6, rngs=nnx.Rngs(0))]
)
def test_norms_of_flax_are_not_given_the_mask_of_steps(norm):
    assert_same_as_loop(norm, array(6, 4, 6), seq_lengths=jnp.array([4, 2, 1, 3, 4, 2]))
