"""`explain`: what would run, and why, without running it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import tdjax
import tdjax.linen
from tdjax import Fold, StrategyError, Vmap, explain, time_distributed
from tdjax.costs.machine import assume

CLIPS = jax.ShapeDtypeStruct((4, 5, 8), jnp.float32)


def center(x):
    return x - x.mean(0, keepdims=True)


def test_an_independent_function():
    found = explain(jnp.tanh, CLIPS)
    assert (found.strategy, found.rows_independent) == (Fold(), True)
    assert found.candidates[0].strategy == found.strategy
    costs = [each.forward_s + each.gradient_s for each in found.candidates[1:]]
    assert costs == sorted(costs) and min(costs) > 0


def test_a_function_that_mixes_rows_names_the_operation():
    found = explain(center, CLIPS)
    assert (found.strategy, found.rows_independent) == (Vmap(), False)
    assert any("reduce_sum" in reason and __file__ in reason for reason in found.reasons)
    assert not any(isinstance(each.strategy, Fold) for each in found.candidates)


@pytest.mark.parametrize("strategy", ["vmap", "map", "fold", Fold(chunk_size=3)], ids=str)
def test_a_strategy_that_was_asked_for_stays(strategy):
    found = explain(time_distributed(jnp.tanh, strategy=strategy), CLIPS)
    assert str(found.strategy) == str(strategy)
    assert found.rows_independent and found.reasons[0] == "It was asked for."


def test_nothing_runs():
    ran = []

    def step(x):
        jax.debug.callback(lambda: ran.append(1))
        return x

    explain(time_distributed(step, strategy="vmap"), jnp.ones((4, 5, 8)))
    assert not ran


def test_arguments_are_those_of_the_call():
    wrapped = time_distributed(lambda w, x: x @ w, in_axes=(None, 1))
    weights = jax.ShapeDtypeStruct((8, 3), jnp.float32)
    assert explain(wrapped, weights, CLIPS).rows_independent
    with pytest.raises(ValueError, match="in_axes"):
        explain(wrapped, CLIPS)
    assert explain(jnp.tanh, CLIPS, seq_lengths=jnp.array([5, 3, 2, 1])).rows_independent


@pytest.mark.parametrize(
    "module",
    [nn.Dense(3), tdjax.linen.TimeDistributed(nn.Dense(3)), nnx.Linear(8, 3, rngs=nnx.Rngs(0))],
    ids=["linen", "wrapped", "nnx"],
)
def test_flax_modules(module):
    found = explain(module, jnp.ones((4, 5, 8)))
    assert (found.strategy, found.rows_independent) == (Fold(), True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pooled": True}, "one batch"),
        ({"axis_name": "time"}, "Time has a name"),
    ],
)
def test_what_leaves_one_way_says_so(options, said):
    found = explain(time_distributed(jnp.tanh, **options), CLIPS)
    assert said in found.reasons[0] and found.candidates == ()


def test_one_step_is_mapped():
    found = explain(jnp.tanh, jax.ShapeDtypeStruct((4, 1, 8), jnp.float32))
    assert found.strategy == Vmap() and "one step" in found.reasons[0]


def test_printing_reads_well():
    lines = str(explain(jnp.tanh, CLIPS)).splitlines()
    assert lines[0] == "fold will run."
    assert "proven to be independent" in lines[2]
    shown = [line for line in lines if line.startswith("  ")]
    assert shown[0].split()[0] == "fold" and "us" in shown[0]


def test_a_refusal_is_that_of_the_call():
    with pytest.raises(StrategyError):
        time_distributed(center, strategy="fold")(jnp.ones((4, 5, 8)))
    assert not explain(time_distributed(center, strategy="vmap"), CLIPS).rows_independent


@pytest.mark.usefixtures("on_two_cores")
def test_with_a_mask_it_says_from_where_on_packing_pays():
    large = jax.ShapeDtypeStruct((32, 64, 256), jnp.float32)
    weights = jnp.zeros((256, 256))

    def step(x):
        for _ in range(4):
            x = jnp.tanh(x @ weights)
        return x

    found = explain(step, large, seq_lengths=jnp.full(32, 8))
    assert isinstance(found.strategy, tdjax.Packed)
    assert found.candidates[0].strategy == found.strategy
    assert "Packing is predicted to pay where less than" in str(found)
    assert "12% of these are" in str(found)
    asked = explain(time_distributed(step, strategy="packed"), large, seq_lengths=jnp.full(32, 8))
    assert asked.strategy == tdjax.Packed()


@pytest.mark.usefixtures("on_two_cores")
def test_blocks_on_a_cpu_say_that_their_convolutions_are_their_own():
    kernel = jax.ShapeDtypeStruct((3, 3, 32, 32), jnp.float32)
    clips = jax.ShapeDtypeStruct((4, 8, 28, 28, 32), jnp.float32)

    def conv(kernel, x):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    found = explain(time_distributed(conv, in_axes=(None, 1)), kernel, clips)
    assert found.strategy.chunk_size is not None
    assert any("convolutions are computed" in reason for reason in found.reasons)
    with assume("gpu"):
        found = explain(time_distributed(conv, in_axes=(None, 1)), kernel, clips)
    assert found.strategy == Fold()
    assert not any("convolutions" in reason for reason in found.reasons)
