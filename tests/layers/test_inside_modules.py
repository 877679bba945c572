"""`time_distributed` in the places of a module where it is first tried, and traps it must name."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax_cases import (
    BATCH,
    FEATURES,
    STRATEGIES,
    TIME,
    Net,
    NnxNet,
    assert_close,
    assert_no_tracers,
    data,
)

from tdjax import time_distributed
from tdjax.linen import TimeDistributed

KEY = jax.random.key(13)
LENGTHS = jnp.array([5, 2, 3, 1])
REAL = jnp.arange(TIME) < LENGTHS[:, None]


class InCall(nn.Module):
    """A list of layers made in setup, distributed where they are called."""

    def setup(self):
        self.layers = [nn.Dense(3), nn.Dense(2)]

    def __call__(self, x):
        for layer in self.layers:
            x = time_distributed(layer, strategy="fold")(x)
        return x


class InSetup(nn.Module):
    """A list of distributed layers."""

    def setup(self):
        self.layers = [time_distributed(nn.Dense(size), strategy="fold") for size in (3, 2)]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Beside(nn.Module):
    """A list of layers, and another of the same ones distributed."""

    def setup(self):
        self.layers = {"a": nn.Dense(3), "b": nn.Dense(2)}
        self.over_time = [time_distributed(layer) for layer in self.layers.values()]

    def __call__(self, x):
        for layer in self.over_time:
            x = layer(x)
        return x


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (InCall, {"layers_0", "layers_1"}),
        (InSetup, {"layers_0", "layers_1"}),
        (Beside, {"layers_a", "layers_b"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_layers_in_lists_and_dictionaries(cls, names):
    variables = cls().init(KEY, data())
    assert_no_tracers(variables)
    assert set(variables["params"]) == names
    x = data()
    for tree in variables["params"].values():
        layer = tree.get("layer", tree)  # a wrapper made in setup owns its layer
        x = x @ layer["kernel"] + layer["bias"]
    assert_close(cls().apply(variables, data()), x)


class Takes(nn.Module):
    """Compact methods with a mask, a keyword and noise, decorated in either order."""

    above: bool = True

    @time_distributed(strategy="vmap")
    @nn.compact
    def first(self, x, scale, mask=None, *, train=False):
        return self.body(x, scale, mask, train)

    @nn.compact
    @time_distributed(strategy="fold")
    def second(self, x, scale, mask=None, *, train=False):
        return self.body(x, scale, mask, train)

    def body(self, x, scale, mask, train):
        x = nn.Dropout(0.5, deterministic=not train)(nn.Dense(3)(x) * scale[:, None])
        return x if mask is None else x + mask[:, None]

    def __call__(self, *args, **kwargs):
        return (self.first if self.above else self.second)(*args, **kwargs)


@pytest.mark.parametrize("above", [True, False])
def test_a_decorated_method_takes_masks_and_keywords(above):
    module, x, scale = Takes(above), data(), data(BATCH, TIME, seed=2)
    variables = jax.jit(module.init)(KEY, x, scale)
    dense = jax.tree.map(np.asarray, variables["params"]["Dense_0"])
    hidden = (np.asarray(x) @ dense["kernel"] + dense["bias"]) * np.asarray(scale)[..., None]
    assert_close(module.apply(variables, x, scale), hidden)
    masked = np.where(REAL[..., None], hidden + 1, np.float32(0))
    assert_close(module.apply(variables, x, scale, seq_lengths=LENGTHS), masked)
    assert_close(module.apply(variables, x, scale, mask=REAL), masked)
    found = jax.jit(module.init_with_output)(KEY, x, scale, mask=REAL)
    assert_close(found, (masked, variables))
    noisy = np.asarray(module.apply(variables, x, scale, train=True, rngs={"dropout": KEY}))
    kept = noisy != 0
    assert_close(noisy, np.where(kept, 2 * hidden, 0))
    assert len({kept[:, t].tobytes() for t in range(TIME)}) == TIME


def noisy_module(strategy):
    class Noisy(nn.Module):
        @time_distributed(strategy=strategy)
        @nn.compact
        def __call__(self, x):
            return nn.Dropout(0.5, deterministic=False)(x)

    return Noisy()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_noise_in_a_decorated_method_is_the_same_under_every_strategy(strategy):
    ones, rngs = jnp.ones((BATCH, TIME, FEATURES)), {"dropout": KEY}
    noise = noisy_module(strategy).apply({}, ones, rngs=rngs)
    np.testing.assert_array_equal(noise, noisy_module("unroll").apply({}, ones, rngs=rngs))
    assert len({noise[:, t].tobytes() for t in range(TIME)}) == TIME


class Outside(nn.Module):
    """Decorators on methods that Flax does not wrap."""

    def setup(self):
        self.dense = nn.Dense(3)

    @nn.nowrap
    @time_distributed
    def above(self, x):
        return self.dense(x)

    @time_distributed
    @nn.nowrap
    def below(self, x):
        return self.dense(x)

    @nn.nowrap
    def pure(self, x):
        return jnp.tanh(x)

    def __call__(self, x):
        return self.above(x), self.below(x), time_distributed(self.pure)(x)


def test_methods_that_flax_does_not_wrap():
    (above, below, pure), variables = Outside().init_with_output(KEY, data())
    assert_no_tracers(variables)
    assert_close(above, TimeDistributed(nn.Dense(3)).apply(_inside(variables, "dense"), data()))
    assert_close(below, above)
    assert_close(pure, jnp.tanh(data()))


def _inside(variables, name):
    return {"params": {"layer": variables["params"][name]}}


class Shares(nn.Module):
    """A module whose child's parameters stand among its own."""

    wrapped: bool

    def setup(self):
        self.child = nn.Dense(3)
        nn.share_scope(self, self.child)
        self.over_time = TimeDistributed(self.child)

    def __call__(self, x):
        return self.over_time(x) if self.wrapped else time_distributed(self.child)(x)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_layer_that_shares_the_scope_of_its_parent(wrapped):
    output, variables = Shares(wrapped).init_with_output(KEY, data())
    assert set(variables["params"]) == {"kernel", "bias"}
    dense = variables["params"]
    assert_close(output, data() @ dense["kernel"] + dense["bias"])


def test_a_wrapper_that_shares_the_scope_of_its_parent():
    class Parent(nn.Module):
        def setup(self):
            self.over_time = TimeDistributed(nn.Dense(3))
            nn.share_scope(self, self.over_time)

        def __call__(self, x):
            return self.over_time(x)

    output, variables = Parent().init_with_output(KEY, data())
    assert_close(output, TimeDistributed(nn.Dense(3)).apply(variables, data()))


def test_decorated_methods_in_each_other_run_over_both_times():
    class Nested(nn.Module):
        def setup(self):
            self.net = Net(rate=0.5, sows=True)

        @time_distributed(strategy="vmap")
        def clips(self, x):
            return self.frames(x)

        @time_distributed(strategy="fold")
        def frames(self, x):
            return self.net(x, train=True)

        def __call__(self, x):
            return self.clips(x)

    x = data(8, 3, 4, FEATURES)
    rngs = {"params": KEY, "dropout": KEY}

    @jax.jit
    def run():
        variables = Nested().init(rngs, x)
        return variables, Nested().apply(variables, x, rngs=rngs, mutable=["intermediates"])

    variables, (output, found) = run()
    (hidden,) = found["intermediates"]["net"]["hidden"]
    dense = variables["params"]["net"]["Dense_0"]
    assert_close(hidden, x @ dense["kernel"] + dense["bias"])
    output, hidden = np.asarray(output), np.asarray(hidden)
    kept = output != 0
    assert_close(output, np.where(kept, np.tanh(2 * hidden), 0))
    assert len({kept[:, i, j].tobytes() for i in range(3) for j in range(4)}) == 12


class Trap(nn.Module):
    """A function that reaches modules in a way that is not seen from outside."""

    kind: str

    @nn.compact
    def __call__(self, x):
        dense, nested = nn.Dense(3), {"dense": [nn.Dense(3)]}

        def inner(y):
            return dense(y)

        functions = {
            "a function it calls": lambda y: inner(y),
            "a list in a dictionary": lambda y: nested["dense"][0](y),
            "a layer made inside": lambda y: nn.Dense(3)(y),
            "jax.vmap": jax.vmap(dense),
            "jax.jit": jax.jit(lambda y: dense(y)),
            "a partial": functools.partial(lambda layer, y: layer(y), dense),
        }
        return time_distributed(functions[self.kind], strategy="vmap")(x)


KINDS = (
    "a function it calls",
    "a list in a dictionary",
    "a layer made inside",
    "jax.vmap",
    "jax.jit",
    "a partial",
)


@pytest.mark.parametrize("kind", KINDS)
def test_functions_that_reach_a_module_in_use_name_the_wrapper(kind):
    with pytest.raises(TypeError, match=r"Dense.*tdjax\.linen\.TimeDistributed"):
        Trap(kind).init(KEY, data())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_apply_in_a_step_is_pure_whatever_it_collects(strategy):
    layer = Net(rate=0.5, sows=True)
    variables = layer.init(KEY, data()[:, 0])

    def step(x):
        kwargs = {"train": True, "mutable": ["intermediates"], "rngs": {"dropout": KEY}}
        output, found = layer.apply(variables, x, **kwargs)
        return output, found["intermediates"]["hidden"][0]

    class Parent(nn.Module):
        @nn.compact
        def __call__(self, x):
            return time_distributed(step, strategy=strategy)(nn.Dense(FEATURES)(x))

    shared_noise = strategy in ("vmap", "map", "unroll", "auto") or "Vmap" in str(strategy)
    if not shared_noise:  # one key for all steps: rows of a fold would draw from another
        with pytest.raises(ValueError, match="cannot be folded"):
            time_distributed(step, strategy=strategy)(data())
        return
    expected = [step(data()[:, t]) for t in range(TIME)]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves, 1), *expected)
    assert_close(time_distributed(step, strategy=strategy)(data()), expected)
    (output, hidden), variables_of_parent = Parent().init_with_output(KEY, data())
    assert_no_tracers(variables_of_parent)
    assert output.shape == hidden.shape == (BATCH, TIME, 3)


class Decorated(nnx.Module):
    """An NNX module with a method that runs over time."""

    def __init__(self, norm=False, rate=0.0):
        self.net = NnxNet(norm=norm, rate=rate)

    @time_distributed(strategy="fold")
    def encode(self, x):
        return self.net(x)

    def __call__(self, x):
        return self.encode(x)


def test_a_decorated_method_of_an_nnx_module_updates_it():
    model = Decorated(norm=True, rate=0.5)
    expected = NnxNet(norm=True)
    expected(data().reshape(-1, FEATURES))
    output = nnx.jit(lambda model, x: model(x))(model, data())
    assert_no_tracers(nnx.state(model))
    assert_close(model.net.norm.mean.get_value(), expected.norm.mean.get_value())
    assert model.net.dropout.rngs.count.get_value() == 1
    assert len({(output[:, t] == 0).tobytes() for t in range(TIME)}) > 1


def test_a_decorated_method_of_an_nnx_module_without_state():
    model = Decorated()
    assert_close(model(data()), jnp.stack([model.net(data()[:, t]) for t in range(TIME)], 1))
