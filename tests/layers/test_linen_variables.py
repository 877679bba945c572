"""Names, paths and initial values are the layer's own, whatever the strategy and the time size."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax_cases import STRATEGIES, Holder, Net, assert_close, data

import tdjax
from tdjax.linen import TimeDistributed

KEY = jax.random.key(3)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("time", [0, 1, 5])
def test_initial_variables_are_those_of_a_submodule(strategy, time):
    layer = Net(norm=True, rate=0.5)
    variables = TimeDistributed(layer, strategy=strategy).init(KEY, data()[:, :time])
    assert_close(variables, Holder(layer).init(KEY, data()[:, 0]))


def test_in_a_compact_parent_the_layer_belongs_to_the_parent():
    class Parent(nn.Module):
        wrap: bool

        @nn.compact
        def __call__(self, x):
            dense = nn.Dense(3)
            if self.wrap:
                return TimeDistributed(dense)(x), TimeDistributed(nn.Dense(2, name="other"))(x)
            return dense(x), nn.Dense(2, name="other")(x)

    expected = Parent(False).init(KEY, data()[:, 0])
    assert_close(Parent(True).init(KEY, data()), expected)
    assert set(expected["params"]) == {"Dense_0", "other"}


def test_in_setup_the_layer_belongs_to_the_wrapper():
    class Parent(nn.Module):
        def setup(self):
            self.head = TimeDistributed(nn.Dense(3))

        def __call__(self, x):
            return self.head(x)

    variables = Parent().init(KEY, data())
    assert jax.tree.map(jnp.shape, variables) == {
        "params": {"head": {"layer": {"bias": (3,), "kernel": (6, 3)}}}
    }


@pytest.mark.parametrize("strategy", ["vmap", "fold", "map"], ids=str)
def test_a_layer_can_be_shared(strategy):
    class Shared(nn.Module):
        def setup(self):
            self.dense = nn.Dense(3)
            self.one = TimeDistributed(self.dense, strategy=strategy)
            self.two = TimeDistributed(self.dense, strategy=strategy)

        def __call__(self, x):
            return self.one(x) + 2 * self.two(x) + self.dense(x)

    variables = Shared().init(KEY, data())
    assert set(variables["params"]) == {"dense"}
    dense = variables["params"]["dense"]
    assert_close(
        Shared().apply(variables, data()), 4 * (data() @ dense["kernel"] + dense["bias"]), 1e-5
    )


def test_a_layer_that_holds_a_shared_layer():
    class Tied(nn.Module):
        embed: nn.Module

        def __call__(self, x):
            return self.embed.attend(x)

    class Model(nn.Module):
        def setup(self):
            self.embed = nn.Embed(11, 6)
            self.read = TimeDistributed(Tied(self.embed))

        def __call__(self, tokens):
            return self.read(self.embed(tokens))

    tokens = jnp.arange(20).reshape(4, 5) % 11
    variables = Model().init(KEY, tokens)
    table = variables["params"]["embed"]["embedding"]
    assert set(variables["params"]) == {"embed"}
    assert_close(Model().apply(variables, tokens), table[tokens] @ table.T, 1e-5)


def test_initialising_calls_the_layer_twice_at_most_and_gives_the_output():
    calls = []

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x):
            calls.append(x.shape)
            return nn.BatchNorm(use_running_average=False)(nn.Dense(3)(x))

    wrapper = TimeDistributed(Counted(), strategy="vmap")
    output, variables = wrapper.init_with_output(KEY, data())
    assert len(calls) <= 2
    applied, _ = wrapper.apply(variables, data(), mutable=["batch_stats"])
    assert_close(output, applied)


def test_noise_in_the_first_output_is_that_of_apply():
    wrapper = TimeDistributed(Net(rate=0.5), strategy="fold")
    rngs = {"params": KEY, "dropout": jax.random.key(1)}
    output, variables = wrapper.init_with_output(rngs, data(), train=True)
    assert_close(output, wrapper.apply(variables, data(), train=True, rngs=rngs))


def test_partitioning_metadata_stays():
    layer = nn.Dense(
        3, kernel_init=nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
    )
    variables = TimeDistributed(layer, strategy="fold").init(KEY, data())
    specs = nn.get_partition_spec(variables)
    assert specs["params"]["layer"]["kernel"] == jax.sharding.PartitionSpec(None, "model")
    output = TimeDistributed(layer, strategy="map").apply(variables, data())
    assert output.shape == (4, 5, 3)


def test_tabulate_lists_the_layer_once():
    table = TimeDistributed(Net(norm=True)).tabulate(
        KEY, data(), console_kwargs={"width": 200, "force_terminal": False}
    )
    assert table.count("layer/Dense_0") == 1 and "TimeDistributed" in table


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Dense, "class Dense"),
        (3, "int"),
        (nn.Dense(3).bind({"params": {}}), "bind"),
    ],
)
def test_what_is_no_layer_is_refused(layer, message):
    with pytest.raises(TypeError, match=message):
        TimeDistributed(layer)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"strategy": "best"}, ValueError, '"vmap"'),
        ({"rng": "same"}, ValueError, "'split' or 'shared'"),
        ({"pooled": 1}, ValueError, "None, True or False"),
        ({"state": "keep"}, ValueError, "None or 'carry'"),
        ({"sum_collections": "losses"}, TypeError, "must be a tuple"),
        ({"in_axes": 1.5}, TypeError, "in_axes"),
        ({"masked_output": "one"}, ValueError, "'zero' or 'keep'"),
    ],
)
def test_wrong_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        TimeDistributed(nn.Dense(3), **settings)


def test_wrong_arguments_are_named():
    wrapper = TimeDistributed(nn.Dense(3))
    with pytest.raises(ValueError, match=r"inputs is float32\[4\]"):
        wrapper.init(KEY, jnp.ones(4))
    with pytest.raises(ValueError, match=r"bool\[4,5\]"):
        wrapper.init(KEY, data(), mask=jnp.ones((4, 4), bool))
    with pytest.raises(ValueError, match="both given"):
        wrapper.init(KEY, data(), mask=jnp.ones((4, 5), bool), seq_lengths=jnp.ones(4, int))


def test_a_fold_that_mixes_rows_names_the_layer_and_the_operation():
    class Centered(nn.Module):
        def __call__(self, x):
            return x - x.mean(0)

    with pytest.raises(tdjax.StrategyError, match=r"Centered cannot be folded.*reduce_sum"):
        TimeDistributed(Centered(), strategy="fold").apply({}, data())
    expected = data() - data().mean(0)
    assert_close(TimeDistributed(Centered()).apply({}, data()), expected)
