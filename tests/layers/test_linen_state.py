"""Batch normalization in training, counters, caches and other state, under every strategy."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax_cases import (
    BATCH,
    BLOCKED,
    FEATURES,
    TIME,
    WHOLE,
    Holder,
    Net,
    assert_close,
    assert_no_tracers,
    data,
)

import tdjax
from tdjax.linen import TimeDistributed

KEY = jax.random.key(5)
LENGTHS = jnp.array([5, 2, 3, 1])
REAL = jnp.arange(TIME) < LENGTHS[:, None]


class Nested(nn.Module):
    """Batch normalization two levels down, once inside `nn.remat`."""

    @nn.compact
    def __call__(self, x, train=False):
        x = Net(norm=True)(x, train=train)
        return nn.remat(Net, static_argnums=(2,))(norm=True)(x, train)


@functools.cache
def start(layer=None):
    variables = Holder(layer or Net(norm=True)).init(KEY, data()[:, 0])
    fresh = jax.tree.map(lambda a: a + 0.1, variables["batch_stats"])
    return {"params": {}, **variables, "batch_stats": fresh}


def train(module, variables, x, *, rngs=None, **kwargs):
    """Return output, new statistics, and gradients of the parameters and the input."""

    def loss(params, x):
        output, after = module.apply(
            {**variables, "params": params},
            x,
            train=True,
            mutable=["batch_stats"],
            rngs=rngs,
            **kwargs,
        )
        weights = jnp.cos(jnp.arange(output.size, dtype=output.dtype)).reshape(output.shape)
        return (output * weights).sum(), (output, after)

    run = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (_, (output, after)), gradients = run(variables["params"], x)
    assert_no_tracers((output, after, gradients))
    return output, after["batch_stats"], gradients


@functools.cache
def pooled(layer):
    """Return what the layer gives on the folded batch."""
    rows = data().reshape(BATCH * TIME, FEATURES)
    output, after, (params, inputs) = train(Holder(layer), start(layer), rows)
    return output.reshape(BATCH, TIME, -1), after, (params, inputs.reshape(data().shape))


@functools.cache
def steps_alone(layer):
    """Return what the layer gives on each step."""
    return [train(Holder(layer), start(layer), data()[:, t]) for t in range(TIME)]


@pytest.mark.parametrize("strategy", WHOLE, ids=str)
@pytest.mark.parametrize("layer", [Net(norm=True), Nested()], ids=["plain", "nested"])
def test_statistics_pool_over_batch_and_time(layer, strategy):
    actual = train(TimeDistributed(layer, strategy=strategy), start(layer), data())
    assert_close(actual, pooled(layer), atol=3e-6)


def test_nobody_is_asked_for_an_axis_name_and_none_is_left_behind():
    layer = nn.BatchNorm(use_running_average=False)
    wrapper = TimeDistributed(layer, strategy="vmap")

    @functools.partial(jax.jit, static_argnums=0)
    def run(module, x):
        module.apply(module.init(KEY, x), x, mutable=["batch_stats"])

    run(wrapper, data())
    assert layer.axis_name is None
    run(layer, data()[:, 0])


@pytest.mark.parametrize("strategy", BLOCKED, ids=str)
def test_blocks_cannot_pool(strategy):
    wrapper = TimeDistributed(Net(norm=True), strategy=strategy)
    with pytest.raises(tdjax.StrategyError, match='"vmap" or "fold"'):
        train(wrapper, start(), data())


@pytest.mark.parametrize("strategy", WHOLE, ids=str)
def test_dropout_beside_pooled_statistics_keeps_its_bits(strategy):
    layer = Net(norm=True, rate=0.5)
    variables = start(layer)
    output = train(
        TimeDistributed(layer, strategy=strategy), variables, data(), rngs={"dropout": KEY}
    )[0]
    per_step = TimeDistributed(Net(rate=0.5), strategy="map").apply(
        {"params": {"layer": {"Dense_0": variables["params"]["layer"]["Dense_0"]}}},
        data(),
        train=True,
        rngs={"dropout": KEY},
    )
    np.testing.assert_array_equal(output == 0, per_step == 0)
    shared = TimeDistributed(layer, strategy=strategy, rng="shared")
    mask = train(shared, variables, data(), rngs={"dropout": KEY})[0] == 0
    assert (mask == mask[:, :1]).all() and mask.any()


class RowNoise(nn.Module):
    """Noise that all rows of a step share, beside batch normalization."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dropout(0.5, broadcast_dims=(0,), deterministic=not train)(x)


def test_noise_that_a_folded_batch_cannot_have_is_refused_and_auto_finds_another_way():
    variables = Holder(RowNoise()).init(KEY, data()[:, 0])
    variables["params"] = variables["params"]
    rngs = {"dropout": KEY}
    with pytest.raises(tdjax.StrategyError, match="draws noise"):
        train(TimeDistributed(RowNoise(), strategy="fold"), variables, data(), rngs=rngs)
    expected = train(TimeDistributed(RowNoise(), strategy="vmap"), variables, data(), rngs=rngs)
    assert_close(train(TimeDistributed(RowNoise()), variables, data(), rngs=rngs), expected)


@pytest.mark.parametrize("strategy", ["fold", "auto"], ids=str)
def test_with_a_mask_real_steps_count_alone_whatever_the_padding_holds(strategy):
    variables = start()
    x = jax.device_put(np.where(REAL[..., None], data(), np.float32("nan")))
    wrapper = TimeDistributed(Net(norm=True), strategy=strategy)
    output, after, (params, inputs) = train(wrapper, variables, x, seq_lengths=LENGTHS)
    output, inputs = np.asarray(output), np.asarray(inputs)

    real = np.asarray(REAL)
    weights = np.cos(np.arange(BATCH * TIME * 3.0, dtype="f")).reshape(BATCH, TIME, 3)[real]

    def loss(trained, rows):
        y, new = Holder(Net(norm=True)).apply(
            {**variables, "params": trained}, rows, train=True, mutable=["batch_stats"]
        )
        return (y * weights).sum(), (y, new)

    run = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (_, (rows, new)), (params2, inputs2) = run(variables["params"], np.asarray(data())[real])
    assert_close(output[real], rows)
    assert (output[~real] == 0).all() and (inputs[~real] == 0).all()
    assert_close(after, new["batch_stats"])
    assert_close((params, inputs[real]), (params2, inputs2), atol=3e-6)


def test_with_a_mask_the_other_ways_say_fold():
    for strategy in ("vmap", "map", tdjax.Fold(chunk_size=3)):
        with pytest.raises(tdjax.StrategyError, match='"fold"'):
            train(TimeDistributed(Net(norm=True), strategy=strategy), start(), data(), mask=REAL)


@pytest.mark.parametrize("pooled", [None, False])
def test_with_nothing_real_statistics_stay_and_gradients_are_zero(pooled):
    wrapper = TimeDistributed(Net(norm=True), pooled=pooled)
    nothing = jnp.zeros((BATCH, TIME), bool)
    x = jnp.full((BATCH, TIME, FEATURES), jnp.nan)
    output, after, gradients = train(wrapper, start(), x, mask=nothing)
    assert (output == 0).all()
    assert_close(after, start()["batch_stats"])
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize(
    "strategy", ["vmap", "map", "unroll", tdjax.Vmap(chunk_size=2), "auto"], ids=str
)
def test_statistics_of_each_step_move_the_running_ones_by_their_mean(strategy):
    layer = Net(norm=True)
    steps = steps_alone(layer)
    wrapper = TimeDistributed(layer, strategy=strategy, pooled=False)
    output, after, _ = train(wrapper, start(layer), data())
    assert_close(output, jnp.stack([step[0] for step in steps], 1))
    mean = jax.tree.map(lambda *values: sum(values) / TIME, *[step[1] for step in steps])
    assert_close(after, mean)


def test_statistics_of_each_step_are_not_for_a_fold():
    with pytest.raises(tdjax.StrategyError, match="pooled=False"):
        train(TimeDistributed(Net(norm=True), strategy="fold", pooled=False), start(), data())


def test_statistics_over_all_steps_are_not_for_blocks():
    wrapper = TimeDistributed(Net(norm=True), strategy=tdjax.Fold(chunk_size=3))
    with pytest.raises(tdjax.StrategyError, match="over batch and time, which needs all steps"):
        train(wrapper, start(), data())


@pytest.mark.parametrize("strategy", ["vmap", "fold"], ids=str)
@pytest.mark.parametrize("outer", ["vmap", "fold"], ids=str)
def test_wrappers_in_wrappers_pool_over_all_of_it(strategy, outer):
    layer = Net(norm=True)
    wrapper = TimeDistributed(TimeDistributed(layer, strategy=strategy), strategy=outer)
    x = data(2, 3, 4, FEATURES)
    variables = start()
    nested = jax.tree.map(lambda leaf: leaf, {k: {"layer": v} for k, v in variables.items()})
    output, after, _ = train(wrapper, nested, x)
    flat, expected, _ = train(Holder(layer), variables, x.reshape(24, FEATURES))
    assert_close(output, flat.reshape(2, 3, 4, 3), atol=3e-6)
    assert_close(after["layer"], expected)


class OwnNorm(nn.Module):
    """Batch normalization that is not Flax's own."""

    @nn.compact
    def __call__(self, x, train=False):
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1])
        if train and not self.is_initializing():
            mean.value = 0.9 * mean.value + 0.1 * x.mean(0)
        return x - x.mean(0) if train else x - mean.value


def test_a_layer_of_ones_own_that_keeps_batch_stats():
    variables = start(OwnNorm())
    for strategy in ("fold", "auto"):
        wrapper = TimeDistributed(OwnNorm(), strategy=strategy)
        assert_close(train(wrapper, variables, data()), pooled(OwnNorm()))
    with pytest.raises(tdjax.StrategyError, match=r"batch_stats/mean.*fold"):
        train(TimeDistributed(OwnNorm(), strategy="vmap"), variables, data())


class Counter(nn.Module):
    """A counter of calls, and if asked a moving average of what it sees."""

    average: bool = False

    @nn.compact
    def __call__(self, x):
        count = self.variable("state", "count", jnp.zeros, (), jnp.int32)
        if not self.is_initializing():
            count.value += 1
        if self.average:
            mean = self.variable("state", "mean", jnp.zeros, x.shape[-1])
            if not self.is_initializing():
                mean.value = 0.5 * mean.value + 0.5 * x.mean(0)
            x = x + mean.value
        return x * count.value


@pytest.mark.parametrize("strategy", [*WHOLE, *BLOCKED], ids=str)
def test_state_that_is_the_same_for_all_steps_comes_out_once(strategy):
    wrapper = TimeDistributed(Counter(), strategy=strategy)
    variables = wrapper.init(KEY, data())
    output, after = wrapper.apply(variables, data(), mutable=["state"])
    assert_close(output, data())
    assert after["state"]["layer"]["count"] == 1


def test_state_that_differs_between_steps_is_refused_by_name():
    wrapper = TimeDistributed(Counter(average=True))
    variables = wrapper.init(KEY, data())
    with pytest.raises(tdjax.StrategyError, match=r'state/mean.*state="carry"'):
        wrapper.apply(variables, data(), mutable=["state"])


@pytest.mark.parametrize("strategy", ["auto", "map", "unroll", tdjax.Vmap(1, remat=True)], ids=str)
def test_state_is_carried_in_order(strategy):
    wrapper = TimeDistributed(Counter(average=True), strategy=strategy, state="carry")
    variables = wrapper.init(KEY, data())
    module, carried, steps = Holder(Counter(average=True)), dict(variables), []
    for t in range(TIME):
        y, carried = module.apply(carried, data()[:, t], mutable=["state"])
        steps.append(y)

    def run(x):
        return wrapper.apply(variables, x, mutable=["state"])

    output, after = run(data())
    assert_close(output, jnp.stack(steps, 1), atol=1e-5)
    assert_close(after, carried)
    assert after["state"]["layer"]["count"] == TIME
    assert jnp.isfinite(jax.grad(lambda x: run(x)[0].sum())(data())).all()


def test_carrying_is_for_one_step_at_a_time():
    wrapper = TimeDistributed(Counter(), strategy="fold", state="carry")
    variables = TimeDistributed(Counter()).init(KEY, data())
    with pytest.raises(tdjax.StrategyError, match='"map", "unroll" or "auto"'):
        wrapper.apply(variables, data(), mutable=["state"])


def test_pooling_on_purpose_folds_a_layer_that_mixes_rows():
    class Centered(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dropout(0.5, deterministic=False)(x - x.mean(0))

    folded = data() - data().mean((0, 1))
    for strategy in ("fold", "auto"):
        wrapper = TimeDistributed(Centered(), strategy=strategy, pooled=True)
        output = wrapper.apply({}, data(), rngs={"dropout": KEY})
        kept = output != 0
        assert_close(output[kept], 2 * folded[kept])
    with pytest.raises(tdjax.StrategyError):
        TimeDistributed(Centered(), strategy="map", pooled=True).apply(
            {}, data(), rngs={"dropout": KEY}
        )
