"""`time_distributed` on modules and their methods: it lifts them, or names the wrapper."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from flax_cases import Net, NnxNet, assert_close, assert_no_tracers, data

import tdjax
from tdjax import time_distributed

KEY = jax.random.key(2)


class Inner(Net):
    norm: bool = True
    rate: float = 0.5
    sows: bool = True


def body(self, x, train=False):
    x = nn.Dense(3)(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    self.sow("intermediates", "hidden", x)
    return nn.Dropout(0.5, deterministic=not train)(x)


class Above(nn.Module):
    @time_distributed
    @nn.compact
    def __call__(self, x, train=False):
        return body(self, x, train)


class Below(nn.Module):
    @nn.compact
    @time_distributed(strategy="vmap")
    def __call__(self, x, train=False):
        return body(self, x, train)


class Method(nn.Module):
    def setup(self):
        self.inner = Inner()

    @time_distributed(strategy="fold")
    def encode(self, x, train=False):
        return self.inner(x, train=train)

    def __call__(self, x, train=False):
        return self.encode(x, train=train)


class Call(nn.Module):
    def setup(self):
        self.inner = Inner()

    def __call__(self, x, train=False):
        return time_distributed(self.inner, strategy="vmap")(x, train=train)


class InSetup(nn.Module):
    def setup(self):
        self.inner = time_distributed(Inner())

    def __call__(self, x, train=False):
        return self.inner(x, train=train)


class BoundMethod(nn.Module):
    def setup(self):
        self.inner = Inner()

    def encode(self, x, train=False):
        return self.inner(x, train=train)

    def __call__(self, x, train=False):
        return time_distributed(self.encode)(x, train=train)


class InCompact(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return time_distributed(Inner())(x, train=train)


@pytest.mark.parametrize(
    "cls", [Above, Below, Method, Call, InSetup, BoundMethod, InCompact], ids=lambda c: c.__name__
)
def test_inside_a_module_it_works(cls):
    module = cls()
    variables = module.init(KEY, data())
    assert_no_tracers(variables)
    output, after = module.apply(
        variables,
        data(),
        train=True,
        mutable=["batch_stats", "intermediates"],
        rngs={"dropout": KEY},
    )
    assert_no_tracers((output, after))
    (hidden,) = jax.tree.leaves(after["intermediates"])
    assert output.shape == hidden.shape == (4, 5, 3)
    assert_close(hidden.mean((0, 1)), jnp.zeros(3))  # statistics are over batch and time
    zeros = output == 0
    assert not (zeros == zeros[:, :1]).all()
    evaluated = module.apply(variables, data())
    steps = [module.apply(variables, data()[:, t : t + 1]) for t in range(5)]
    assert_close(evaluated, jnp.concatenate(steps, 1))


def test_a_free_module_is_wrapped():
    wrapper = time_distributed(nn.Dense(3), strategy="fold", in_axes=0, out_axes=0)
    assert isinstance(wrapper, tdjax.linen.TimeDistributed)
    x = data().swapaxes(0, 1)
    assert wrapper.init_with_output(KEY, x)[0].shape == (5, 4, 3)
    net = time_distributed(NnxNet(), strategy="fold")
    assert isinstance(net, tdjax.nnx.TimeDistributed)
    assert net(data()).shape == (4, 5, 3)


def test_closing_over_a_module_in_use_names_the_wrapper():
    class Closure(nn.Module):
        def setup(self):
            self.inner = Inner()

        def __call__(self, x):
            return time_distributed(lambda y: self.inner(y))(x)

    with pytest.raises(TypeError, match=r"tdjax.linen.TimeDistributed"):
        Closure().init(KEY, data())


def test_closing_over_a_module_that_only_reads_works():
    module = Net()
    bound = module.bind(module.init(KEY, data()[:, 0]))
    expected = jnp.stack([bound(data()[:, t]) for t in range(5)], 1)
    assert_close(time_distributed(lambda y: bound(y), strategy="fold")(data()), expected)
    net = NnxNet()
    expected = jnp.stack([net(data()[:, t]) for t in range(5)], 1)
    assert_close(
        jnp.tanh(time_distributed(lambda y: net.dense(y), strategy="fold")(data())), expected
    )


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Dense, "class Dense"),
        (nnx.Linear, "class Linear"),
        (nn.Dense(3).bind({"params": {}}), "bind"),
    ],
)
def test_classes_and_bound_modules_are_refused(layer, message):
    with pytest.raises(TypeError, match=message):
        time_distributed(layer)


def test_settings_without_meaning_for_a_module_are_refused():
    with pytest.raises(TypeError, match="axis_name"):
        time_distributed(nn.Dense(3), axis_name="time")


def test_apply_of_a_free_module_is_a_plain_function():
    layer = nn.Dense(3)
    variables = layer.init(KEY, data()[:, 0])
    apply = time_distributed(layer.apply, in_axes=(None, 1), strategy="fold")
    assert_close(apply(variables, data()), layer.apply(variables, data()))


def test_a_method_of_an_nnx_module_updates_it():
    class Model(nnx.Module):
        def __init__(self):
            self.net = NnxNet(norm=True, rate=0.5)

        def encode(self, x):
            return self.net(x)

    model = Model()
    output = time_distributed(model.encode, strategy="vmap")(data())
    assert output.shape == (4, 5, 3)
    assert (model.net.norm.mean.get_value() != 0).all()
    assert model.net.dropout.rngs.count.get_value() == 1
