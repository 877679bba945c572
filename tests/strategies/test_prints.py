"""`jax.debug.print` and `jax.debug.callback` in a step: each step prints, as under `jax.vmap`."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tdjax
from tdjax import Fold, Packed, StrategyError, Vmap

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
WEIGHT = np.eye(4, dtype=np.float32)
FOLDS = ["auto", "fold", Fold(4), Fold(4, unroll=True, remat=True), Fold(assume_independent=True)]
STRATEGIES = [*FOLDS, "vmap", "map", Vmap(2), Packed(2)]
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
MASK = np.ones((2, 3), bool)


def run(fun, strategy, *args, mask=None, jit=False, **options):
    """Call a step over time, and wait for what it prints."""
    fun = tdjax.time_distributed(fun, strategy=strategy, **options)
    if isinstance(strategy, Packed) and mask is None:
        mask = MASK
    fun = functools.partial(fun, mask=mask)
    output = jax.block_until_ready((jax.jit(fun) if jit else fun)(*args))
    jax.effects_barrier()
    return output


@every_strategy
@pytest.mark.parametrize("jit", [False, True])
def test_every_step_prints_its_own_part_once(strategy, jit, capfd):
    def step(x, weight):
        y = x @ weight
        jax.debug.print("rows {}, {name}", y.sum(-1).astype(int), name="y")
        jax.jit(lambda y: jax.debug.print("inside {}", y.sum().astype(int)))(y)
        return y + 1

    output = run(step, strategy, X, WEIGHT, in_axes=(1, None), jit=jit)
    assert np.array_equal(output, X + 1)
    printed = sorted(capfd.readouterr().out.splitlines())
    steps = X.sum(-1).astype(int).T
    assert printed == sorted(
        [f"rows {rows}, y" for rows in steps] + [f"inside {rows.sum()}" for rows in steps]
    )


@pytest.mark.parametrize("strategy", [*FOLDS, Vmap(2), Packed(2)], ids=str)
def test_ordered_callbacks_come_in_the_order_of_the_loop(strategy):
    seen = []

    def step(x):
        jax.debug.callback(lambda x: seen.append(("in", int(x[0, 0]))), x, ordered=True)
        jax.debug.callback(lambda x: seen.append(("out", int(x[0, 0]))), -x, ordered=True)
        return x

    run(step, strategy, X)
    assert seen == [(name, sign * t) for t in (0, 4, 8) for name, sign in (("in", 1), ("out", -1))]


@pytest.mark.parametrize("strategy", [*FOLDS, "vmap"], ids=str)
def test_what_is_the_same_for_all_steps_is_printed_once(strategy, capfd):
    def step(x, weight):
        jax.debug.print("hello")
        jax.debug.print("weights {}", weight.sum().astype(int))
        return x @ weight

    run(step, strategy, X, WEIGHT, in_axes=(1, None))
    assert sorted(capfd.readouterr().out.splitlines()) == ["hello", "weights 4"]


@pytest.mark.parametrize("strategy", [*FOLDS, Packed(2)], ids=str)
def test_gradients_are_those_of_the_step_without_prints(strategy, capfd):
    def step(x, weight):
        jax.debug.print(f"shape {x.shape}")
        y = jnp.tanh(x @ weight)
        jax.debug.callback(lambda y: None, y)
        return y

    def loss(weight):
        return (run(step, strategy, X / 10, weight, in_axes=(1, None)) ** 2).sum()

    expected = jax.grad(lambda weight: (jnp.tanh(X / 10 @ weight) ** 2).sum())(WEIGHT)
    np.testing.assert_allclose(jax.grad(loss)(WEIGHT), expected, rtol=1e-5)
    assert "shape (2, 4)" in capfd.readouterr().out  # what a step sees, and not the rows of a fold


@pytest.mark.parametrize("strategy", ["auto", "fold", Packed(2)], ids=str)
def test_masked_rows_print_zeros(strategy, capfd):
    def step(x):
        jax.debug.print("{}", x[:, 0].astype(int))
        return x + 1

    mask = np.array([[True, True, False], [True, False, False]])
    output = run(step, strategy, X, mask=mask)
    assert np.array_equal(output, (X + 1) * mask[..., None])
    assert sorted(capfd.readouterr().out.splitlines()) == ["[ 0 12]", "[0 0]", "[4 0]"]


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        jax.debug.print("linen {}", x.sum().astype(int))
        return nn.Dense(2)(x)


class Nnx(nnx.Module):
    def __init__(self):
        self.layer = nnx.Linear(4, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        jax.debug.print("nnx {}", x.sum().astype(int))
        return self.layer(x)


@pytest.mark.parametrize("strategy", ["auto", "fold"])
def test_layers_print_as_well(strategy, capfd):
    model = tdjax.linen.TimeDistributed(Linen(), strategy=strategy)
    variables = model.init(jax.random.key(0), X)
    jax.effects_barrier()
    capfd.readouterr()
    jax.block_until_ready(model.apply(variables, X))
    jax.block_until_ready(tdjax.nnx.TimeDistributed(Nnx(), strategy=strategy)(X))
    jax.effects_barrier()
    sums = [int(X[:, t].sum()) for t in range(3)]
    expected = [f"{name} {total}" for name in ("linen", "nnx") for total in sums]
    assert sorted(capfd.readouterr().out.splitlines()) == sorted(expected)


def test_prints_in_loops_are_refused_by_name_and_taken_by_auto(capfd):
    def step(x):
        def turn(carry, _):
            jax.debug.print("turn {}", carry[:, 0].astype(int))
            return carry + 1, None

        return jax.lax.scan(turn, x, None, length=1)[0]

    with pytest.raises(StrategyError, match="`debug_print` at"):
        run(step, "fold", X)
    assert np.array_equal(run(step, "auto", X), X + 1)
    printed = sorted(capfd.readouterr().out.splitlines())
    assert printed == ["turn [ 0 12]", "turn [ 4 16]", "turn [ 8 20]"]


def test_explain_says_what_runs_with_prints():
    def step(x):
        jax.debug.print("{}", x.sum())
        return x + 1

    for strategy in ("auto", "fold"):
        found = tdjax.explain(tdjax.time_distributed(step, strategy=strategy), X)
        assert found.rows_independent
