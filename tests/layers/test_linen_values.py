"""Every strategy gives what the plain loop gives: outputs, gradients, noise, what is sown."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax_cases import (
    BATCH,
    FEATURES,
    STRATEGIES,
    TIME,
    Holder,
    Net,
    assert_close,
    assert_no_tracers,
    data,
    loop,
)

import tdjax
from tdjax.linen import TimeDistributed

KEY = jax.random.key(7)

LAYERS = {
    "batch norm in evaluation": Net(norm=True),
    "two dropouts": nn.Sequential(
        [nn.Dropout(0.3, deterministic=False), nn.Dense(3), nn.Dropout(0.5, deterministic=False)]
    ),
}


@functools.cache
def expected_of(name):
    """Return variables, and the loop's output and gradients, of one layer."""
    layer, rngs_key = LAYERS[name], KEY if "dropout" in name else None
    variables = Holder(layer).init({"params": KEY, "dropout": KEY}, data()[:, 0])

    def loss(variables, x):
        output = loop(layer, variables, x, rngs_key)
        return (output * data(BATCH, TIME, 3, seed=1)).sum(), output

    (_, output), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(variables, data())
    return variables, output, gradients


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_those_of_the_loop(name, strategy):
    variables, output, gradients = expected_of(name)
    wrapper = TimeDistributed(LAYERS[name], strategy=strategy)

    @jax.jit
    def run(variables, x):
        def loss(variables, x):
            output = wrapper.apply(variables, x, rngs={"dropout": KEY})
            return (output * data(BATCH, TIME, 3, seed=1)).sum(), output

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(variables, x)

    (_, ours), our_gradients = run(variables, data())
    assert_close(ours, output)
    assert_close(our_gradients, gradients, atol=2e-6)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("rng", ["split", "shared"])
def test_noise_is_bitwise_that_of_the_loop(strategy, rng):
    layer = nn.Dropout(0.5, deterministic=False)
    x = jnp.ones((BATCH, TIME, FEATURES))
    wrapper = TimeDistributed(layer, strategy=strategy, rng=rng)
    noise = wrapper.apply({}, x, rngs={"dropout": KEY})
    np.testing.assert_array_equal(noise, loop(layer, {}, x, KEY, rng))
    same = [bool((noise[:, t] == noise[:, 0]).all()) for t in range(1, TIME)]
    assert all(same) if rng == "shared" else not any(same)


def test_noise_depends_on_the_key_and_the_step_alone():
    wrapper = TimeDistributed(nn.Dropout(0.5, deterministic=False))
    x = jnp.ones((BATCH, TIME, FEATURES))
    long = wrapper.apply({}, x, rngs={"dropout": KEY})
    short = wrapper.apply({}, x[:, :2], rngs={"dropout": KEY})
    np.testing.assert_array_equal(long[:, :2], short)


def test_old_style_keys_give_the_noise_of_new_ones():
    wrapper = TimeDistributed(nn.Dropout(0.5, deterministic=False), strategy="fold")
    x = jnp.ones((2, 2, FEATURES))  # as many rows as a raw key has words
    old = wrapper.apply({}, x, rngs={"dropout": jax.random.key_data(KEY)})
    np.testing.assert_array_equal(old, wrapper.apply({}, x, rngs={"dropout": KEY}))


def test_noise_that_all_rows_share_is_one_a_step():
    layer = nn.Dropout(0.5, broadcast_dims=(0,), deterministic=False)
    x = jnp.ones((BATCH, TIME, FEATURES))
    for strategy in STRATEGIES:
        noise = TimeDistributed(layer, strategy=strategy).apply({}, x, rngs={"dropout": KEY})
        np.testing.assert_array_equal(noise, loop(layer, {}, x, KEY))


def test_two_calls_of_one_wrapper_draw_different_noise():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            drop = TimeDistributed(nn.Dropout(0.5, deterministic=False), strategy="fold")
            return drop(x), drop(x)

    one, other = Twice().apply({}, jnp.ones((4, 5, 6)), rngs={"dropout": KEY})
    assert not (one == other).all()


def test_missing_rngs_is_flax_own_error():
    with pytest.raises(Exception, match="dropout"):
        TimeDistributed(nn.Dropout(0.5, deterministic=False)).apply({}, data())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_sown_and_captured_values_come_back_by_step(strategy):
    layer = Net(sows=True)
    variables = Holder(layer).init(KEY, data()[:, 0])
    x = data()
    output, found = TimeDistributed(layer, strategy=strategy).apply(
        variables, x, capture_intermediates=True, mutable=["intermediates"]
    )
    inside = found["intermediates"]["layer"]
    kernel, bias = (variables["params"]["layer"]["Dense_0"][name] for name in ("kernel", "bias"))
    assert_close(inside["hidden"][0], x @ kernel + bias)
    assert_close(inside["Dense_0"]["__call__"][0], x @ kernel + bias)
    assert_close(inside["__call__"][0], output)
    assert_close(found["intermediates"]["__call__"][0], output)


class Losses(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.sow("intermediates", "mean", x.mean())
        add = {"reduce_fn": lambda a, b: a + b, "init_fn": lambda: 0.0}
        self.sow("losses", "square", (x**2).mean(), **add)
        return x


@pytest.mark.parametrize("strategy", ["vmap", "map", "unroll", "auto"], ids=str)
def test_scalars_have_time_alone_and_sums_have_neither(strategy):
    x = data()
    wrapper = TimeDistributed(Losses(), strategy=strategy, sum_collections=("losses",))
    _, found = wrapper.apply({}, x, mutable=["intermediates", "losses"])
    assert_close(found["intermediates"]["layer"]["mean"][0], x.mean((0, 2)))
    assert_close(found["losses"]["layer"]["square"], (x**2).mean((0, 2)).sum())
    _, again = wrapper.apply({"losses": found["losses"]}, x, mutable=["losses"])
    assert_close(again["losses"]["layer"]["square"], 2 * (x**2).mean((0, 2)).sum())


def test_a_scalar_of_all_rows_keeps_a_fold_from_running():
    with pytest.raises(tdjax.StrategyError, match="reduce_sum"):
        TimeDistributed(Losses(), strategy="fold").apply({}, data(), mutable=["intermediates"])


def test_a_wrapper_called_twice_keeps_what_both_calls_sow():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            wrapper = TimeDistributed(Net(sows=True))
            return wrapper(x)[:, :2] + wrapper(x[:, :2])

    variables = Twice().init(KEY, data())
    _, found = Twice().apply(variables, data(), mutable=["intermediates"])
    first, second = found["intermediates"]["Net_0"]["hidden"]
    assert first.shape == (BATCH, TIME, 3) and second.shape == (BATCH, 2, 3)
    assert_close(second, first[:, :2])


@pytest.mark.parametrize("strategy", ["vmap", "fold", "map"], ids=str)
def test_perturbations_have_a_value_for_every_step(strategy):
    class Perturbed(nn.Module):
        @nn.compact
        def __call__(self, x):
            return self.perturb("here", 2.0 * x) ** 2

    wrapper = TimeDistributed(Perturbed(), strategy=strategy)
    variables = wrapper.init(KEY, data())
    assert variables["perturbations"]["layer"]["here"].shape == data().shape
    gradient = jax.grad(lambda v: wrapper.apply(v, data()).sum())(variables)
    assert_close(gradient["perturbations"]["layer"]["here"], 4.0 * data())


class Masked(nn.Module):
    @nn.compact
    def __call__(self, inputs, scale, mask=None, flip=False):
        x = inputs["x"] * scale[..., None]
        count = mask.astype(x.dtype) if mask is not None else jnp.zeros(x.shape[0])
        return {"y": nn.Dense(3)(-x if flip else x), "count": count}, x.sum(-1)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_pytrees_arguments_keywords_and_masks_reach_the_layer(strategy):
    x, scale = data(), data(BATCH, TIME, seed=3)
    lengths = jnp.array([5, 0, 3, 1])
    wrapper = TimeDistributed(Masked(), strategy=strategy)
    variables = wrapper.init(KEY, {"x": x}, scale)
    result, total = wrapper.apply(variables, {"x": x}, scale, seq_lengths=lengths, flip=True)
    real = jnp.arange(TIME) < lengths[:, None]
    scaled = x * scale[..., None]
    kernel = variables["params"]["layer"]["Dense_0"]["kernel"]
    assert_close(result["y"], jnp.where(real[..., None], -scaled @ kernel, 0.0))
    assert_close(result["count"], real.astype(x.dtype))
    assert_close(total, jnp.where(real, scaled.sum(-1), 0.0))


def test_axes_can_be_elsewhere_and_arguments_shared():
    class Scaled(nn.Module):
        @nn.compact
        def __call__(self, x, weights):
            return nn.Dense(3)(x) @ weights

    weights = data(3, 3, seed=2)
    wrapper = TimeDistributed(Scaled(), in_axes=(0, None), out_axes=0)
    variables = wrapper.init(KEY, data().swapaxes(0, 1), weights)
    expected = TimeDistributed(Scaled(), in_axes=(1, None)).apply(variables, data(), weights)
    actual = wrapper.apply(variables, data().swapaxes(0, 1), weights)
    assert_close(actual, expected.swapaxes(0, 1))


def test_a_function_is_a_layer_too():
    assert_close(TimeDistributed(jnp.tanh, strategy="fold").apply({}, data()), jnp.tanh(data()))


@pytest.mark.parametrize("strategy", ["vmap", "fold", "map"], ids=str)
def test_a_wrapper_in_a_wrapper_draws_for_both_times(strategy):
    inner = TimeDistributed(Net(rate=0.5), strategy=strategy)
    outer = TimeDistributed(inner, strategy=strategy)
    x = jnp.ones((2, 3, 4, FEATURES))  # (batch, outer time, inner time, features)
    variables = outer.init(KEY, x)
    y = outer.apply(variables, x, train=True, rngs={"dropout": KEY})
    reference = TimeDistributed(
        TimeDistributed(Net(rate=0.5), strategy="unroll"), strategy="unroll"
    )
    assert_close(y, reference.apply(variables, x, train=True, rngs={"dropout": KEY}))
    assert len({y[:, i, j].tobytes() for i in range(3) for j in range(4)}) > 6


def test_works_inside_flax_transforms():
    class Inside(nn.Module):
        transform: object

        @nn.compact
        def __call__(self, x):
            return self.transform(TimeDistributed)(Net(sows=True), strategy="fold", name="td")(x)

    x = data()
    plain = Inside(lambda cls: cls)
    variables = plain.init(KEY, x)
    expected = plain.apply(variables, x)
    for transform in (nn.remat, nn.jit):
        module = Inside(transform)
        assert jax.tree.structure(module.init(KEY, x)) == jax.tree.structure(variables)
        actual, found = module.apply(variables, x, mutable=["intermediates"])
        assert_close(actual, expected)
        assert_no_tracers(found)


def test_works_under_jit_grad_and_export():
    wrapper = TimeDistributed(Net(), strategy="fold")
    variables = wrapper.init(KEY, data())
    expected = wrapper.apply(variables, data())
    assert_close(jax.jit(wrapper.apply)(variables, data()), expected)
    batch, time = jax.export.symbolic_shape("b, t")
    spec = jax.ShapeDtypeStruct((batch, time, FEATURES), jnp.float32)
    exported = jax.export.export(jax.jit(wrapper.apply))(
        jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables), spec
    )
    assert_close(exported.call(variables, data()), expected)


def test_no_step_gives_empty_outputs_and_leaves_state_alone():
    wrapper = TimeDistributed(Net(norm=True, rate=0.5, sows=True))
    variables = wrapper.init(KEY, data())
    y, after = wrapper.apply(
        variables,
        data()[:, :0],
        train=True,
        mutable=["batch_stats", "intermediates"],
        rngs={"dropout": KEY},
    )
    assert y.shape == (BATCH, 0, 3)
    assert_close(after["batch_stats"], variables["batch_stats"])
    assert after["intermediates"]["layer"]["hidden"][0].shape == (BATCH, 0, 3)
