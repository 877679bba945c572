"""Parameters are those of the layer as a submodule: paths, initial values, partitioning."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax_cases import FEATURES, Holder, Net, assert_close, data, loop

import tdjax
from tdjax.linen import TimeDistributed

KEY = jax.random.key(3)
# Neither a strategy nor a time size shows in a tree.
SETTINGS = (("vmap", 1), ("map", 2), (tdjax.Fold(chunk_size=3), 5), ("auto", 0))
SPEC = jax.sharding.PartitionSpec


def assert_same_variables(actual, expected):
    """Compare paths, boxes, shapes, types and bits."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def wrapped(strategy):
    return lambda layer: TimeDistributed(layer, strategy=strategy)


def unwrapped(layer):
    return layer


def assert_initialises_as(parent, expected, *sizes):
    """Compare what `parent(strategy)` makes with a tree: by shape, and some by value."""
    shapes = jax.tree.map(jnp.shape, expected)
    for strategy, time in SETTINGS:
        x = data(4, time, *sizes, FEATURES)
        abstract = jax.eval_shape(parent(strategy).init, KEY, x)
        assert jax.tree.map(jnp.shape, abstract) == shapes
    for strategy, time in SETTINGS[2:]:
        x = data(4, time, *sizes, FEATURES)
        assert_same_variables(jax.jit(parent(strategy).init)(KEY, x), expected)


class Compact(nn.Module):
    """Layers made on the spot: numbered beside one that is not wrapped, named, of several parts."""

    wrap: Any
    train: bool = False

    @nn.compact
    def __call__(self, x):
        x = self.wrap(nn.Dense(3))(x)
        x = nn.Dense(4)(x)
        x = self.wrap(nn.Dense(3, name="head"))(x)
        x = self.wrap(nn.Sequential([nn.Dense(5), jnp.tanh, nn.Dense(2)]))(x)
        x = nn.Sequential([self.wrap(nn.Dense(3)), jnp.tanh, self.wrap(nn.Dense(4))])(x)
        x = self.wrap(jnp.tanh)(x)
        return self.wrap(Net(norm=True))(x, train=self.train)


class Setup(nn.Module):
    """Layers made in setup, some of them in lists and dictionaries, one with a name of its own."""

    wrap: Any

    def setup(self):
        self.net = self.wrap(Net(norm=True))
        self.heads = [self.wrap(nn.Dense(3)), self.wrap(nn.Dense(2))]
        self.towers = {"a": self.wrap(nn.Dense(5)), "b": [self.wrap(nn.Dense(3, name="own"))]}

    def __call__(self, x):
        x = self.net(x)
        outputs = [head(x) for head in self.heads]
        return [*outputs, self.towers["a"](x), self.towers["b"][0](x)]


class Unparented(nn.Module):
    """A layer without a parent belongs to its wrapper, which then has a path."""

    wrap: Any

    @nn.compact
    def __call__(self, x):
        return self.wrap(nn.Dense(2, parent=None), name="td")(x)


def test_in_a_compact_parent_layers_have_the_places_they_have_without_a_wrapper():
    expected = jax.jit(Compact(unwrapped, train=True).init)(KEY, data()[:, 0])
    assert "Dense_5" in expected["params"] and "Net_0" in expected["batch_stats"]
    assert_initialises_as(lambda strategy: Compact(wrapped(strategy), train=True), expected)


def test_in_setup_wrappers_have_places_and_hold_their_layers():
    expected = jax.jit(Setup(Holder).init)(KEY, data()[:, 0])
    assert {"net", "heads_1", "towers_a", "own"} <= set(expected["params"])
    assert_initialises_as(lambda strategy: Setup(wrapped(strategy)), expected)


def test_at_the_top_wrappers_in_a_sequence_hold_their_layers():
    def sequence(wrap):
        return nn.Sequential([wrap(nn.Dense(3)), nn.tanh, wrap(Net(norm=True))])

    expected = jax.jit(sequence(Holder).init)(KEY, data()[:, 0])
    assert set(expected["params"]) == {"layers_0", "layers_2"}
    assert_initialises_as(lambda strategy: sequence(wrapped(strategy)), expected)


def test_a_layer_without_a_parent_belongs_to_its_wrapper():
    expected = Unparented(Holder).init(KEY, data()[:, 0])
    assert_same_variables(Unparented(TimeDistributed).init(KEY, data()), expected)
    assert set(expected["params"]["td"]) == {"layer"}


def test_the_name_of_a_wrapper_is_not_that_of_a_layer_made_beside_it():
    class Parent(nn.Module):
        @nn.compact
        def __call__(self, x):
            return TimeDistributed(nn.Dense(3), name="td")(x)

    assert set(Parent().init(KEY, data())["params"]) == {"Dense_0"}


def test_a_wrapper_in_a_wrapper_adds_one_name_where_it_owns_the_layer():
    def nested(strategy):
        return wrapped(strategy)(wrapped("vmap")(Net(norm=True)))

    expected = jax.jit(Holder(Holder(Net(norm=True))).init)(KEY, data()[:, 0])
    assert_initialises_as(nested, expected, 3)

    class Parent(nn.Module):
        wrap: Any

        @nn.compact
        def __call__(self, x):
            return self.wrap(Net(norm=True))(x)

    def twice(strategy):
        return Parent(lambda layer: wrapped(strategy)(wrapped("vmap")(layer)))

    expected = jax.jit(Parent(unwrapped).init)(KEY, data()[:, 0])
    assert set(expected["params"]) == {"Net_0"}
    assert_initialises_as(twice, expected, 3)


def test_a_function_has_no_parameters():
    assert TimeDistributed(jnp.tanh).init(KEY, data()) == {}


class Odd(nn.Module):
    """Initial values that depend on data, on another stream, and on the call itself."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", lambda key: x.std(0))
        shift = self.param("shift", lambda key: jax.random.normal(self.make_rng("noise"), (3,)))
        calls = self.variable("counters", "calls", lambda: jnp.zeros((), jnp.int32))
        calls.value += 1
        return nn.Dense(3)(x / scale) + shift


def test_initial_values_that_depend_on_data_see_the_first_step():
    rngs = {"params": KEY, "noise": jax.random.key(4)}
    expected = Holder(Odd()).init(rngs, data()[:, 0])
    assert expected["counters"]["layer"]["calls"] == 1
    for strategy in ("vmap", "fold", "map", "auto"):
        assert_same_variables(wrapped(strategy)(Odd()).init(rngs, data()), expected)


@pytest.mark.parametrize("strategy", ["vmap", "map", tdjax.Fold(chunk_size=3)], ids=str)
def test_what_was_initialised_without_time_runs_over_it(strategy):
    variables = jax.jit(Compact(unwrapped).init)(KEY, data()[:, 0])
    output = jax.jit(Compact(wrapped(strategy)).apply)(variables, data())
    assert_close(output, loop_of_compact(variables, data()))


def loop_of_compact(variables, x):
    step = jax.jit(Compact(unwrapped).apply)
    return jnp.stack([step(variables, x[:, t]) for t in range(x.shape[1])], axis=1)


class Boxed(nn.Module):
    """Boxes around parameters of each kind of layer, and around a running mean."""

    box: Any = nn.with_partitioning

    @nn.compact
    def __call__(self, x, train=False):
        kernel_init = self.box(nn.initializers.lecun_normal(), (None, "model"))
        x = nn.Dense(4, kernel_init=kernel_init)(x)
        ones = self.box(nn.initializers.ones, ("model",))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.8, scale_init=ones)(x)
        shift = self.variable("batch_stats", "shift", lambda: ones(None, (4,)))
        if train and not self.is_initializing():
            shift.value = 2 * shift.value
        return x + shift.value


BOXES = pytest.mark.parametrize("box", [nn.with_partitioning, nn.with_logical_partitioning])


@BOXES
def test_boxes_keep_their_names_and_are_opened_for_the_layer(box):
    layer = Boxed(box)
    expected = jax.jit(Holder(layer).init)(KEY, data()[:, 0])
    specs = nn.get_partition_spec(expected)
    assert specs["params"]["layer"]["Dense_0"]["kernel"] == SPEC(None, "model")
    assert specs["batch_stats"]["layer"]["shift"] == SPEC("model")
    for strategy, time in SETTINGS:
        init = wrapped(strategy)(layer).init
        assert nn.get_partition_spec(jax.eval_shape(init, KEY, data(4, time, FEATURES))) == specs
    assert_same_variables(jax.jit(TimeDistributed(layer).init)(KEY, data()), expected)


@BOXES
@pytest.mark.parametrize("strategy", ["vmap", "fold", "map"], ids=str)
def test_values_are_right_and_gradients_keep_the_boxes(box, strategy):
    layer, wrapper = Boxed(box), wrapped(strategy)(Boxed(box))
    variables = jax.jit(wrapper.init)(KEY, data())

    @functools.partial(jax.jit, static_argnums=1)
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(variables, apply):
        output = apply(variables, data())
        return (output**2).sum(), output

    (_, output), gradients = run(variables, wrapper.apply)
    (_, expected), expected_gradients = run(variables, functools.partial(loop, layer))
    assert_close(output, expected)
    assert_close(gradients, expected_gradients, atol=1e-5)
    assert nn.get_partition_spec(gradients) == nn.get_partition_spec(variables)
    assert_close(wrapper.apply(nn.unbox(variables), data()), expected)


@BOXES
@pytest.mark.parametrize("strategy", ["vmap", "fold"], ids=str)
def test_boxes_outlive_an_update_of_statistics(box, strategy):
    layer = Boxed(box)
    variables = jax.jit(TimeDistributed(layer).init)(KEY, data())

    def update(module, x):
        apply = functools.partial(module.apply, train=True, mutable=["batch_stats"])
        return jax.jit(apply)(variables, x)[1]

    updates = update(wrapped(strategy)(layer), data())
    assert_close(updates, update(Holder(layer), data().reshape(-1, FEATURES)))
    specs = nn.get_partition_spec(variables)
    assert nn.get_partition_spec(updates) == {"batch_stats": specs["batch_stats"]}


@BOXES
def test_specs_are_known_without_memory_and_hold_on_a_mesh(box):
    wrapper = wrapped("fold")(Boxed(box))
    specs = nn.get_partition_spec(jax.eval_shape(wrapper.init, KEY, data()))
    # Flax's boxes ask for their sharding by a constraint, which explicit axes refuse.
    mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    shardings = jax.tree.map(lambda spec: jax.NamedSharding(mesh, spec), specs)
    with jax.set_mesh(mesh), nn.logical_axis_rules([("model", "model")]):
        variables = jax.jit(wrapper.init, out_shardings=shardings)(KEY, data())
        outputs = jax.jit(wrapper.apply)(variables, data())
    assert nn.get_partition_spec(variables) == specs
    assert_close(outputs, loop(Boxed(box), variables, data()))


class NnxBoxed(nnx.Module):
    """Sharding metadata on parameters and on a running mean."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        kernel_init = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "model"))
        ones = nnx.with_partitioning(nnx.initializers.ones, ("model",))
        self.dense = nnx.Linear(FEATURES, 4, kernel_init=kernel_init, rngs=rngs)
        self.norm = nnx.BatchNorm(4, scale_init=ones, momentum=0.8, rngs=rngs)
        self.norm.mean = nnx.BatchStat(jnp.zeros(4), out_sharding=("model",))

    def __call__(self, x):
        return self.norm(self.dense(x))


def nnx_boxed():
    # NNX shards a variable where it is made, and for that wants a mesh.
    with jax.set_mesh(jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))):
        return NnxBoxed()


@pytest.mark.parametrize("strategy", ["vmap", "fold"])
def test_nnx_metadata_of_parameters_and_statistics_outlives_training(strategy):
    folded, net = nnx_boxed(), nnx_boxed()
    wrapper = tdjax.nnx.TimeDistributed(net, strategy=strategy)
    specs = nnx.get_partition_spec(nnx.state(folded))
    assert specs["dense"]["kernel"].get_value() == SPEC(None, "model")
    assert nnx.get_partition_spec(nnx.state(wrapper))["layer"] == specs
    gradients_of = nnx.jit(nnx.grad(lambda model, x: (model(x) ** 3).sum()))
    gradients = gradients_of(wrapper, data())
    expected = gradients_of(folded, data().reshape(-1, FEATURES))
    assert_close(gradients["layer"], expected, atol=1e-4)
    assert_close(nnx.state(net), nnx.state(folded))
    assert (net.norm.mean.get_value() != 0).all()
    assert nnx.get_partition_spec(nnx.state(net)) == specs
    assert nnx.get_partition_spec(gradients)["layer"] == nnx.get_partition_spec(expected)
