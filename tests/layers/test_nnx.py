"""The NNX wrapper: the same core, the module updated in place."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax_cases import (
    BLOCKED,
    FEATURES,
    STRATEGIES,
    TIME,
    WHOLE,
    NnxNet,
    assert_close,
    assert_no_tracers,
    data,
)

import tdjax
from tdjax.nnx import TimeDistributed

LENGTHS = jnp.array([5, 2, 3, 1])
REAL = jnp.arange(TIME) < LENGTHS[:, None]


def step_by_step(net, x):
    """Call a copy of a net on every step, with that step's keys."""
    outputs = []
    for t in range(x.shape[1]):
        copy = nnx.clone(net)
        for stream in (copy.dropout.rngs,):
            stream.key.set_value(jax.random.fold_in(stream.key.get_value(), t))
        outputs.append(copy(x[:, t]))
    return jnp.stack(outputs, 1)


@nnx.jit
def value_and_gradients(model, x):
    def loss(model, x):
        output = model(x)
        weights = jnp.cos(jnp.arange(output.size, dtype=output.dtype)).reshape(output.shape)
        return (output * weights).sum(), output

    (_, output), gradients = nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True)(model, x)
    return output, gradients


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_values_gradients_and_noise_are_those_of_the_loop(strategy):
    net = NnxNet(rate=0.5)
    expected = step_by_step(net, data())
    weights = jnp.cos(jnp.arange(expected.size, dtype=expected.dtype)).reshape(expected.shape)
    gradient = jax.grad(lambda x: (step_by_step(net, x) * weights).sum())(data())
    output, gradients = value_and_gradients(TimeDistributed(net, strategy=strategy), data())
    assert_close(output, expected)
    np.testing.assert_array_equal(output == 0, expected == 0)
    assert net.dropout.rngs.count.get_value() == 1
    assert_close(gradients[1], gradient, atol=2e-6)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_shared_noise_is_the_same_at_every_step(strategy):
    net = nnx.Dropout(0.5, rngs=nnx.Rngs(3))
    output = TimeDistributed(net, strategy=strategy, rng="shared")(jnp.ones((4, 5, 6)))
    np.testing.assert_array_equal(output, jnp.broadcast_to(output[:, :1], output.shape))
    assert (output == 0).any() and net.rngs.count.get_value() == 1


def test_streams_given_at_the_call_are_split_and_advance():
    rngs = nnx.Rngs(0)
    wrapper = TimeDistributed(nnx.Dropout(0.5), strategy="fold")
    one, two = (wrapper(jnp.ones((4, 5, 6)), rngs=rngs) for _ in range(2))
    assert rngs.default.count.get_value() == 2
    assert not (one == two).all() and not (one[:, 0] == one[:, 1]).all()


@pytest.mark.parametrize("strategy", WHOLE, ids=str)
def test_statistics_pool_over_batch_and_time(strategy):
    folded, net = NnxNet(norm=True), NnxNet(norm=True)
    expected, gradients = value_and_gradients(folded, data().reshape(-1, FEATURES))
    output, ours = value_and_gradients(TimeDistributed(net, strategy=strategy), data())
    assert_close(output.reshape(-1, 3), expected)
    assert_close(net.norm.mean.get_value(), folded.norm.mean.get_value())
    assert_close(net.norm.var.get_value(), folded.norm.var.get_value())
    assert_close(jax.tree.leaves(ours[0]), jax.tree.leaves(gradients[0]), atol=3e-6)
    assert_close(ours[1].reshape(-1, FEATURES), gradients[1], atol=3e-6)
    assert type(net.norm) is nnx.BatchNorm and net.norm.axis_name is None


@pytest.mark.parametrize("strategy", BLOCKED, ids=str)
def test_blocks_cannot_pool(strategy):
    with pytest.raises(tdjax.StrategyError, match="pooled=False"):
        TimeDistributed(NnxNet(norm=True), strategy=strategy)(data())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_evaluation_is_open_to_every_strategy(strategy):
    net = NnxNet(norm=True, rate=0.5)
    net.eval()
    expected = jnp.stack([net(data()[:, t]) for t in range(TIME)], 1)
    before = jax.tree.leaves(nnx.state(net, nnx.BatchStat))
    assert_close(TimeDistributed(net, strategy=strategy)(data()), expected)
    assert_close(jax.tree.leaves(nnx.state(net, nnx.BatchStat)), before)


@pytest.mark.parametrize("strategy", ["vmap", "map", "auto"], ids=str)
def test_statistics_of_each_step_move_the_running_ones_by_their_mean(strategy):
    net = NnxNet(norm=True)
    copies = [nnx.clone(net) for _ in range(TIME)]
    expected = jnp.stack([copy(data()[:, t]) for t, copy in enumerate(copies)], 1)
    assert_close(TimeDistributed(net, strategy=strategy, pooled=False)(data()), expected)
    mean = sum(copy.norm.mean.get_value() for copy in copies) / TIME
    assert_close(net.norm.mean.get_value(), mean)


def test_with_a_mask_real_steps_count_alone_whatever_the_padding_holds():
    net, packed = NnxNet(norm=True), NnxNet(norm=True)
    expected = packed(data()[REAL])
    x = jnp.where(REAL[..., None], data(), jnp.nan)
    gradients = nnx.grad(lambda model: model(x, seq_lengths=LENGTHS).sum())(
        TimeDistributed(NnxNet(norm=True))
    )
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    output = TimeDistributed(net, strategy="fold")(x, mask=REAL)
    assert_close(output[REAL], expected)
    assert (output[~REAL] == 0).all()
    assert_close(net.norm.var.get_value(), packed.norm.var.get_value())
    assert type(net.norm) is nnx.BatchNorm


@pytest.mark.parametrize("strategy", ["vmap", "fold", "map", "auto"], ids=str)
def test_sown_values_come_back_by_step(strategy):
    net = NnxNet(sow=True)
    wrapper = TimeDistributed(net, strategy=strategy)
    _, found = nnx.capture(wrapper, nnx.Intermediate)(data())
    assert_no_tracers(found)
    assert_close(found["layer"]["hidden"].get_value()[0], net.dense(data()))


class Loss(nnx.Variable):
    pass


class Sows(nnx.Module):
    def __call__(self, x):
        self.sow(nnx.Intermediate, "mean", x.mean())
        self.sow(Loss, "square", (x**2).mean(), init_fn=lambda: 0.0, reduce_fn=lambda a, b: a + b)
        return x


def test_scalars_have_time_alone_and_sums_have_neither():
    wrapper = TimeDistributed(Sows(), sum_collections=(Loss,))
    _, means, losses = nnx.capture(wrapper, nnx.Intermediate, Loss)(data())
    assert_close(means["layer"]["mean"].get_value()[0], data().mean((0, 2)))
    assert_close(losses["layer"]["square"].get_value(), (data() ** 2).mean((0, 2)).sum())


class Counter(nnx.Module):
    def __init__(self, average=False):
        self.count = nnx.Variable(jnp.zeros((), jnp.int32))
        self.mean = nnx.Variable(jnp.zeros(FEATURES)) if average else None

    def __call__(self, x):
        self.count[...] += 1
        if self.mean is not None:
            self.mean[...] = 0.5 * self.mean[...] + 0.5 * x.mean(0)
            x = x + self.mean[...]
        return x * self.count[...]


@pytest.mark.parametrize("strategy", ["vmap", "fold", "map", tdjax.Fold(chunk_size=3)], ids=str)
def test_state_that_is_the_same_for_all_steps_comes_out_once(strategy):
    counter = Counter()
    assert_close(TimeDistributed(counter, strategy=strategy)(data()), data())
    assert counter.count.get_value() == 1


def test_state_that_differs_is_refused_or_carried():
    with pytest.raises(tdjax.StrategyError, match=r'mean.*state="carry"'):
        TimeDistributed(Counter(average=True))(data())
    reference, counter = Counter(average=True), Counter(average=True)
    expected = jnp.stack([reference(data()[:, t]) for t in range(TIME)], 1)
    assert_close(TimeDistributed(counter, state="carry")(data()), expected, atol=1e-5)
    assert_close(nnx.state(counter), nnx.state(reference))


def test_rng_streams_advance_once_where_state_is_carried():
    class Noisy(nnx.Module):
        def __init__(self):
            self.counter, self.dropout = Counter(), nnx.Dropout(0.5, rngs=nnx.Rngs(1))

        def __call__(self, x):
            return self.dropout(self.counter(x))

    noisy = Noisy()
    TimeDistributed(noisy, state="carry")(data())
    assert noisy.counter.count.get_value() == TIME
    assert noisy.dropout.rngs.count.get_value() == 1


def test_split_merge_nested_wrappers_and_no_steps():
    inner = TimeDistributed(NnxNet(), strategy="fold")
    outer = TimeDistributed(inner, strategy="vmap")
    x = data(2, 3, 4, FEATURES)
    merged = nnx.merge(*nnx.split(outer))
    assert_close(merged(x).reshape(24, 3), NnxNet()(x.reshape(24, FEATURES)))
    assert inner(x[:, 0, :0]).shape == (2, 0, 3)
    assert "layer" in nnx.state(inner)


def test_masks_and_keywords_reach_the_layer():
    class Takes(nnx.Module):
        def __call__(self, x, mask=None, flip=False):
            return (-x if flip else x) * mask[:, None]

    output = TimeDistributed(Takes())(data(), seq_lengths=LENGTHS, flip=True)
    assert_close(output, jnp.where(REAL[..., None], -data(), 0.0))


def test_a_method_and_a_function_are_layers_too():
    net = NnxNet()
    assert_close(TimeDistributed(net.dense.__call__, strategy="fold")(data()), net.dense(data()))
    assert_close(TimeDistributed(jnp.tanh)(data()), jnp.tanh(data()))


@pytest.mark.parametrize(("layer", "message"), [(nnx.Linear, "class Linear"), (3, "int")])
def test_what_is_no_layer_is_refused(layer, message):
    with pytest.raises(TypeError, match=message):
        TimeDistributed(layer)


def test_mutating_a_module_that_is_closed_over_never_leaks():
    net = NnxNet(norm=True)
    with pytest.raises(Exception, match="trace"):
        tdjax.time_distributed(lambda x: net(x), strategy="vmap")(data())
    assert_no_tracers(nnx.state(net))


def test_batch_of_one_and_time_of_one():
    for shape in ((1, 5, FEATURES), (4, 1, FEATURES)):
        expected = NnxNet(norm=True)(data(*shape).reshape(-1, FEATURES)).reshape(*shape[:2], 3)
        for strategy in ("vmap", "fold", "auto"):
            net = NnxNet(norm=True, rate=0.0)
            assert_close(TimeDistributed(net, strategy=strategy)(data(*shape)), expected)
