"""What goes wrong where time is distributed by hand, and does not here: a test for each row of the
README's table, but for that on a mesh (`partition/test_mesh_programs.py`)."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from casebook import array

import tdjax
from tdjax.linen import TimeDistributed

KEY = jax.random.key(0)
CLIPS = array(2, 3, 4, 4, 3)  # (batch, time, height, width, channels)


@pytest.fixture(autouse=True)
def strict_promotion():
    """Leave promotion as it is: Flax needs it."""


class Net(nn.Module):
    """A convolution and batch normalization."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), use_bias=False)(x)
        return nn.BatchNorm(use_running_average=not train)(x).mean((1, 2))


def reshaped(fun):
    """Merge time into the batch, call once, and split again."""
    return lambda x: jax.tree.map(
        lambda y: y.reshape(*x.shape[:2], *y.shape[1:]), fun(x.reshape(-1, *x.shape[2:]))
    )


def loop(fun, x):
    return np.stack([fun(x[:, step]) for step in range(x.shape[1])], 1)


def test_a_reshape_mixes_the_steps_of_a_function_whose_rows_see_each_other():
    def center(x):
        return x - x.mean(0)

    x = array(4, 5, 3)
    expected = loop(center, x)
    assert np.abs(reshaped(center)(x) - expected).max() > 0.1
    np.testing.assert_allclose(tdjax.time_distributed(center)(x), expected, atol=1e-6)
    with pytest.raises(tdjax.StrategyError, match=r"test_by_hand\.py:\d+.* reduces over the rows"):
        tdjax.time_distributed(center, strategy="fold")(x)


def test_vmap_gives_running_statistics_a_time_axis():
    net = Net()
    variables = net.init(KEY, CLIPS[:, 0])

    def step(frame):
        return net.apply(variables, frame, train=True, mutable=["batch_stats"])

    def shape_of_mean(updates):
        return updates["batch_stats"]["BatchNorm_0"]["mean"].shape

    assert shape_of_mean(jax.vmap(step, 1, 1)(CLIPS)[1]) == (4, 3)

    over_time = TimeDistributed(net)
    variables = tdjax.linen.wrapper_variables(variables)
    _, updates = over_time.apply(variables, CLIPS, train=True, mutable=["batch_stats"])
    assert shape_of_mean(tdjax.linen.layer_variables(updates)) == (4,)


def test_a_reshape_counts_padding_in_batch_statistics():
    net, lengths = Net(), np.array([3, 1])
    real = np.arange(3) < lengths[:, None]
    padded = np.where(real[..., None, None, None], CLIPS, 0)
    variables = net.init(KEY, CLIPS[:, 0])

    def train(module, variables, x, **options):
        output, updates = module.apply(variables, x, train=True, mutable=["batch_stats"], **options)
        return output, updates["batch_stats"]

    expected, statistics = train(net, variables, padded[real])  # what is real, picked by hand
    by_hand, biased = train(net, variables, padded.reshape(-1, 4, 4, 3))
    assert np.abs(by_hand.reshape(2, 3, 4)[real] - expected).max() > 1e-3
    assert np.abs(biased["BatchNorm_0"]["mean"] - statistics["BatchNorm_0"]["mean"]).max() > 1e-4

    wrapped = tdjax.linen.wrapper_variables(variables)
    ours, updates = train(TimeDistributed(net), wrapped, padded, seq_lengths=lengths)
    np.testing.assert_allclose(ours[real], expected, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), updates["layer"], statistics
    )


def test_vmap_draws_one_dropout_mask_for_all_steps():
    dropout = nn.Dropout(0.5, deterministic=False)
    ones = jnp.ones((2, 3, 64))
    same = jax.vmap(lambda x: dropout.apply({}, x, rngs={"dropout": KEY}), 1, 1)(ones)
    np.testing.assert_array_equal(same[:, 0], same[:, 1])

    kept = TimeDistributed(dropout).apply({}, ones, rngs={"dropout": KEY})
    assert (kept[:, 0] != kept[:, 1]).any() and (kept[:, 1] != kept[:, 2]).any()


def test_the_vmap_of_flax_drops_keyword_arguments():
    class Doubled(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return 2 * x if train else x

    x = array(2, 3, 4)
    by_hand = nn.vmap(Doubled, variable_axes={}, split_rngs={}, in_axes=1, out_axes=1)()
    with pytest.warns(RuntimeWarning, match='"train" is'):
        np.testing.assert_array_equal(by_hand.apply({}, x, train=True), x)
    np.testing.assert_array_equal(TimeDistributed(Doubled()).apply({}, x, train=True), 2 * x)


def test_zeroing_padded_outputs_leaves_nan_in_gradients():
    def unit(x):
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    lengths = np.array([3, 1])
    real = np.arange(3) < lengths[:, None]
    x = jnp.where(real[..., None], array(2, 3, 4), 0)
    weights = array(4, 4)

    def by_hand(weights):
        return jnp.where(real[..., None], unit(x @ weights), 0)

    def ours(weights):
        over_time = tdjax.time_distributed(lambda weights, x: unit(x @ weights), in_axes=(None, 1))
        return over_time(weights, x, seq_lengths=lengths)

    def real_rows(weights):
        return unit(x[real] @ weights)

    def gradient(fun):
        return jax.grad(lambda weights: (fun(weights)[..., 0] ** 2).sum())(weights)

    assert np.isfinite(by_hand(weights)).all()
    assert np.isnan(gradient(by_hand)).all()
    np.testing.assert_allclose(gradient(ours), gradient(real_rows), atol=1e-5)


@pytest.mark.usefixtures("on_cpu")
def test_map_leaves_the_gradients_of_convolutions_in_a_slow_form_on_a_cpu():
    """Inside a loop XLA computes it as it stands, without the fast kernel."""
    kernel = array(3, 3, 3, 4)

    def step(kernel, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def by_hand(kernel, x):
        return jax.lax.map(lambda frame: step(kernel, frame), jnp.moveaxis(x, 1, 0))

    def forms(over_time):
        gradient = jax.jit(jax.grad(lambda kernel: (over_time(kernel, CLIPS) ** 2).sum()))
        return set(re.findall(r"dim_labels=(\S+?),", gradient.lower(kernel).compile().as_text()))

    fast = {"b01f_01io->b01f", "b0f_0io->b0f"}
    assert "f01b_i01o->01bf" in forms(by_hand)
    ours = tdjax.time_distributed(step, in_axes=(None, 1), strategy="map")
    assert forms(ours) <= fast
