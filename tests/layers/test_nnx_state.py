"""State of NNX layers over time: counters, caches, statistics, and the metadata of variables."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from flax_cases import STRATEGIES, assert_close, assert_no_tracers, data
from jax.sharding import PartitionSpec as P

import tdjax
from tdjax.nnx import TimeDistributed

BATCH, TIME, FEATURES = 4, 5, 6
IN_ORDER = ("map", "unroll", tdjax.Vmap(chunk_size=1, remat=True), "auto")


class Calls(nnx.Variable):
    """How often a layer was called."""


class Average(nnx.Variable):
    """A moving average."""


class Moving(nnx.Module):
    """Centers its input by a moving average of what it has seen, kept as a tree."""

    def __init__(self):
        self.linear = nnx.Linear(FEATURES, 3, rngs=nnx.Rngs(0))
        self.calls = Calls(jnp.zeros((), jnp.int32))
        self.seen = Average({"mean": jnp.zeros(3), "weight": jnp.zeros(())})

    def __call__(self, x):
        x = self.linear(x)
        seen = self.seen.get_value()
        mean = 0.5 * seen["mean"] + 0.5 * x.mean(0)
        self.seen.set_value({"mean": mean, "weight": 0.5 * seen["weight"] + 0.5})
        self.calls[...] += 1
        return jnp.sin(x - mean) * self.calls[...]


class Bare(nnx.Module):
    """Keeps its state in plain attributes."""

    def __init__(self):
        self.linear = nnx.Linear(FEATURES, 3, rngs=nnx.Rngs(0))
        self.mean = jnp.zeros(3)
        self.calls = jnp.zeros((), jnp.int32)

    def __call__(self, x):
        x = self.linear(x)
        self.mean = 0.5 * self.mean + 0.5 * x.mean(0)
        self.calls = self.calls + 1
        return jnp.sin(x - self.mean) * self.calls


class Steps(nnx.Module):
    """The plain loop over a layer, in the wrapper's place."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return jnp.stack([self.layer(x[:, t]) for t in range(x.shape[1])], 1)


@nnx.jit
def value_and_gradients(model, x):
    def loss(model, x):
        output = model(x)
        return jnp.vdot(output, jnp.cos(jnp.arange(output.size))), output

    (_, output), gradients = nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True)(model, x)
    return output, *gradients


@pytest.mark.parametrize("layer", [Moving, Bare])
@pytest.mark.parametrize("strategy", IN_ORDER, ids=str)
def test_carried_state_its_outputs_and_gradients_are_those_of_the_loop(layer, strategy):
    model = TimeDistributed(layer(), strategy=strategy, state="carry")
    plain = Steps(layer())
    for clip in (data(), data(seed=1)):
        actual, expected = value_and_gradients(model, clip), value_and_gradients(plain, clip)
        assert_close(actual, expected, atol=1e-5)
    assert_close(nnx.to_pure_dict(nnx.state(model)), nnx.to_pure_dict(nnx.state(plain)), atol=1e-5)
    assert_no_tracers(nnx.state(model))


@pytest.mark.parametrize("strategy", ["vmap", "fold", tdjax.Fold(chunk_size=3)], ids=str)
def test_strategies_that_take_steps_together_carry_nothing(strategy):
    with pytest.raises(tdjax.StrategyError, match=r'Moving has state="carry".*"map"'):
        TimeDistributed(Moving(), strategy=strategy, state="carry")(data())


@pytest.mark.parametrize(("layer", "name"), [(Moving, r"seen\['mean'\]"), (Bare, "mean")])
@pytest.mark.parametrize("strategy", ["vmap", "fold", "map", "auto"])
def test_state_that_differs_is_refused_by_name_and_stays(layer, name, strategy):
    model = TimeDistributed(layer(), strategy=strategy)
    with pytest.raises(tdjax.StrategyError, match=rf'{layer.__name__} writes {name},.*"carry"'):
        nnx.jit(lambda model, x: model(x))(model, data())
    assert not jax.tree.leaves(nnx.state(model, Average)) or not model.layer.calls[...]


class Counts(nnx.Module):
    """Counts its calls in three ways, none of which depends on what it is called with."""

    def __init__(self):
        self.linear = nnx.Linear(FEATURES, 3, rngs=nnx.Rngs(0))
        self.calls = Calls(jnp.zeros((), jnp.int32))
        self.bare = jnp.zeros(2)
        self.cache = nnx.Cache({"index": jnp.zeros((), jnp.int32), "scale": jnp.ones(3)})

    def __call__(self, x):
        cache = self.cache.get_value()
        self.cache.set_value({"index": cache["index"] + 1, "scale": 0.5 * cache["scale"]})
        self.calls[...] += 1
        self.bare = self.bare + 1.0
        return self.linear(x) * cache["scale"] + self.bare[0]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_state_that_is_the_same_for_all_steps_is_written_once(strategy):
    model = TimeDistributed(Counts(), strategy=strategy)
    plain = model.layer.linear(data())
    assert_close(model(data()), plain + 1.0)
    assert_close(model(data()), 0.5 * plain + 2.0)
    cache = model.layer.cache.get_value()
    assert model.layer.calls[...] == 2 and cache["index"] == 2 and (model.layer.bare == 2).all()
    assert_close(cache["scale"], jnp.full(3, 0.25))


def test_a_spectral_norm_iterates_once_a_call():
    def normed():
        rngs = nnx.Rngs(0)
        return nnx.SpectralNorm(nnx.Linear(FEATURES, 3, rngs=rngs), rngs=rngs)

    model, plain = TimeDistributed(normed(), strategy="fold"), normed()
    output = model(data(), update_stats=True)
    expected = plain(data().reshape(-1, FEATURES), update_stats=True)
    assert_close(output.reshape(-1, 3), expected, atol=1e-5)
    assert_close(nnx.state(model.layer, nnx.BatchStat), nnx.state(plain, nnx.BatchStat), atol=1e-5)


def test_attention_decodes_step_by_step_with_its_cache():
    def decoder():
        attention = nnx.MultiHeadAttention(2, FEATURES, decode=True, rngs=nnx.Rngs(0))
        attention.init_cache((BATCH, TIME, FEATURES))
        return attention

    tokens = data()[:, :, None]  # one token a step
    with pytest.raises(tdjax.StrategyError, match="cached_key"):
        TimeDistributed(decoder())(tokens)
    model, plain = TimeDistributed(decoder(), state="carry"), Steps(decoder())
    assert_close(model(tokens), plain(tokens), atol=1e-5)
    assert_close(nnx.state(model, nnx.Cache), nnx.state(plain, nnx.Cache), atol=1e-5)
    assert model.layer.cache_index[...] == TIME


class Normed(nnx.Module):
    """Batch normalization, further down."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.blocks = nnx.List(
            [
                nnx.Sequential(
                    nnx.Linear(FEATURES, FEATURES, rngs=rngs), nnx.BatchNorm(FEATURES, rngs=rngs)
                )
                for _ in range(2)
            ]
        )

    def __call__(self, x):
        for block in self.blocks:
            x = nnx.relu(block(x))
        return x


class Model(nnx.Module):
    """A wrapper, or what it wraps, inside another module."""

    def __init__(self, wrap):
        self.body = wrap(Normed())
        self.head = nnx.Linear(FEATURES, 3, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.head(self.body(x))


@pytest.mark.parametrize("strategy", ["vmap", "fold", "auto"])
def test_statistics_pool_at_any_nesting_inside_another_module(strategy):
    model = Model(lambda layer: TimeDistributed(layer, strategy=strategy))
    folded = Model(lambda layer: layer)
    output, _, gradient = value_and_gradients(model, data())
    expected, _, along = value_and_gradients(folded, data().reshape(-1, FEATURES))
    assert_close(output.reshape(expected.shape), expected, atol=1e-5)
    assert_close(gradient.reshape(along.shape), along, atol=2e-5)
    state, plain = (nnx.to_pure_dict(nnx.state(m, nnx.BatchStat)) for m in (model, folded))
    assert_close(state["body"]["layer"], plain["body"])


@pytest.mark.parametrize(("outer", "inner"), [("fold", "fold"), ("vmap", "fold"), ("fold", "vmap")])
def test_statistics_pool_over_both_times_of_a_wrapper_in_a_wrapper(outer, inner):
    model = TimeDistributed(TimeDistributed(Normed(), strategy=inner), strategy=outer)
    folded, x = Normed(), data(2, 4, 4, FEATURES)
    expected = folded(x.reshape(-1, FEATURES))
    assert_close(model(x).reshape(expected.shape), expected, atol=1e-5)
    state = nnx.state(model.layer.layer, nnx.BatchStat)
    assert_close(state, nnx.state(folded, nnx.BatchStat))


@pytest.mark.parametrize("masked", [False, True])
def test_statistics_pool_where_there_are_as_many_features_as_rows(masked):
    x = data(2, 3, FEATURES)
    norm, folded = (nnx.BatchNorm(FEATURES, rngs=nnx.Rngs(0)) for _ in range(2))
    mask = jnp.ones((2, 3), bool) if masked else None
    output = TimeDistributed(norm, strategy="fold")(x, mask=mask)
    assert_close(output, folded(x.reshape(-1, FEATURES)).reshape(x.shape))
    assert_close(nnx.state(norm), nnx.state(folded))


class Positive(nnx.Param):
    """Holds a logarithm and gives what it is the logarithm of."""

    def get_value(self, **kwargs):
        return jnp.exp(super().get_value(**kwargs))


class Hooked(nnx.Module):
    """Variables that are not what they hold."""

    def __init__(self):
        self.scale = Positive(jnp.linspace(-1.0, 1.0, FEATURES))
        with warnings.catch_warnings():
            # Hooks still work, with a warning that there are better ways.
            warnings.filterwarnings("ignore", message="Variable hooks are deprecated")
            self.calls = Calls(
                jnp.zeros(()),
                on_get_value=lambda _, value: value + 1,
                on_set_value=lambda _, value: value - 1,
                unit="calls",
            )

    def __call__(self, x):
        self.calls.set_value(self.calls.get_value() + 1)
        return x * self.scale.get_value() * self.calls.get_value()


@pytest.mark.parametrize("strategy", ["vmap", "fold", "map", "auto"])
def test_hooks_run_once_and_stay_with_their_variable(strategy):
    model, plain = TimeDistributed(Hooked(), strategy=strategy), Hooked()
    before = model.layer.calls.get_metadata()
    for clip in (data(), data(seed=1)):
        assert_close(model(clip), plain(clip))
        assert model.layer.calls.get_raw_value() == plain.calls.get_raw_value()
    assert model.layer.calls.get_metadata() == before and before["unit"] == "calls"
    loss = lambda model: model(data()).sum()  # noqa: E731
    gradients = nnx.grad(loss)(model)["layer"]["scale"], nnx.grad(loss)(plain)["scale"]
    assert_close(gradients[0].get_raw_value(), gradients[1].get_raw_value(), atol=1e-5)


@pytest.mark.parametrize("strategy", ["vmap", "fold", "map"])
def test_partitioned_parameters_keep_their_metadata(strategy):
    def parallel():
        kernel = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("data", "model"))
        linear = nnx.Linear(FEATURES, 4, kernel_init=kernel, rngs=nnx.Rngs(0))
        linear.bias.set_metadata(out_sharding=("model",), role="offset")
        return linear

    with jax.set_mesh(jax.make_mesh((1, 1), ("data", "model"))):
        model, plain = TimeDistributed(parallel(), strategy=strategy), parallel()
        specs = nnx.get_partition_spec(nnx.state(model))["layer"]
        assert specs["kernel"].get_value() == P("data", "model")
        assert specs["bias"].get_value() == P("model")
        assert_close(nnx.jit(lambda model, x: model(x))(model, data()), plain(data()))
        model(data())
        gradients = nnx.grad(lambda model: model(data()).sum())(model)
        merged = nnx.merge(*nnx.split(model))
        for held in (model.layer, merged.layer, gradients["layer"]):
            for name in ("kernel", "bias"):
                variable = held[name] if isinstance(held, nnx.State) else getattr(held, name)
                assert variable.get_metadata() == getattr(plain, name).get_metadata()


def test_state_made_during_the_call_is_refused():
    class Lazy(nnx.Module):
        def __call__(self, x):
            if not hasattr(self, "scale"):
                self.scale = nnx.Param(2 * jnp.ones(FEATURES))
            return x * self.scale

    with pytest.raises(ValueError, match=r"Lazy makes scale \(Param\).*one step first"):
        TimeDistributed(Lazy())(data())
    layer = Lazy()
    layer(data()[:, 0])
    assert_close(TimeDistributed(layer, strategy="fold")(data()), 2 * data())

    class Keeps(nnx.Module):
        def __init__(self, kind):
            self.kind = kind

        def __call__(self, x):
            self.last = self.kind(x)
            return x

    with pytest.raises(ValueError, match=r"Keeps makes last \(an array\).*nnx\.Intermediate"):
        TimeDistributed(Keeps(nnx.data))(data())
    keeps = Keeps(nnx.Intermediate)
    TimeDistributed(keeps, strategy="fold")(data())
    assert_close(keeps.last.get_value(), data())
