"""A checkpoint saved under one strategy is restored under any other, or into the bare layer."""

from __future__ import annotations

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from flax_cases import STRATEGIES, Holder, Net, NnxNet, assert_close, data

import tdjax
from tdjax.linen import TimeDistributed

KEY = jax.random.key(5)
OTHERS = ("vmap", "map", tdjax.Fold(chunk_size=3), "auto")


@pytest.fixture
def checkpoint(tmp_path):
    """Give `save(tree)` and `restore(target)`, by Orbax."""
    with ocp.StandardCheckpointer() as checkpointer:

        def save(tree):
            checkpointer.save(tmp_path / "state", tree)
            checkpointer.wait_until_finished()

        yield save, lambda target: checkpointer.restore(tmp_path / "state", target)


@pytest.fixture(scope="module")
def trained():
    """Give variables whose statistics and parameters have moved, saved by a fold."""
    wrapper = TimeDistributed(Net(norm=True), strategy="fold")
    variables = jax.jit(wrapper.init)(KEY, data())
    _, updates = wrapper.apply(variables, data(), train=True, mutable=["batch_stats"])
    assert (updates["batch_stats"]["layer"]["BatchNorm_0"]["mean"] != 0).all()
    return {**variables, **updates}


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(one, other)


def test_linen_variables_are_restored_under_any_strategy_and_time(checkpoint, trained):
    save, restore = checkpoint
    save(trained)
    expected = TimeDistributed(Net(norm=True), strategy="fold").apply(trained, data())
    for strategy, time in zip(OTHERS, (7, 1, 2, 3), strict=True):
        wrapper = TimeDistributed(Net(norm=True), strategy=strategy)
        restored = restore(jax.eval_shape(wrapper.init, KEY, data(2, time, 6)))
        assert_same(restored, trained)
        assert_close(wrapper.apply(restored, data()), expected)


def test_a_linen_layer_moves_into_a_wrapper_and_out(checkpoint, trained):
    save, restore = checkpoint
    layer = Net(norm=True)
    alone = {collection: tree["layer"] for collection, tree in trained.items()}
    save(alone)
    bare = restore(jax.eval_shape(layer.init, KEY, data()[:, 0]))
    assert_same(bare, alone)
    steps = [layer.apply(bare, data()[:, t]) for t in range(5)]
    inside = tdjax.linen.wrapper_variables(bare)
    wrapper = TimeDistributed(layer, strategy="vmap")
    assert_same(inside, trained)
    assert_same(tdjax.linen.layer_variables(inside), bare)
    assert_close(wrapper.apply(inside, data()), jnp.stack(steps, axis=1))


def test_initial_values_of_a_layer_by_itself_move_into_a_wrapper_of_a_wrapper():
    layer = Net(norm=True)
    x = data()[:, :, None]
    bare = layer.init(KEY, data()[:, 0])
    once = tdjax.linen.wrapper_variables(bare)
    wrapper = TimeDistributed(TimeDistributed(layer))
    output = wrapper.apply(tdjax.linen.wrapper_variables(once), x)
    assert_close(output[:, :, 0], layer.apply(bare, data()))


def test_variables_that_are_not_those_of_a_wrapper_are_named():
    with pytest.raises(ValueError, match=r"variables\['params'\] holds 'kernel'.*'layer' alone"):
        tdjax.linen.layer_variables({"params": {"kernel": jnp.ones(3)}})


def test_in_a_compact_parent_nothing_has_to_be_moved(checkpoint):
    class Parent(nn.Module):
        wrap: object

        @nn.compact
        def __call__(self, x):
            return self.wrap(nn.Dense(2))(self.wrap(Net(norm=True))(x))

    save, restore = checkpoint
    without, within = Parent(lambda layer: layer), Parent(TimeDistributed)
    variables = jax.jit(without.init)(KEY, data()[:, 0])
    save(variables)
    restored = restore(jax.eval_shape(within.init, KEY, data()))
    steps = [without.apply(variables, data()[:, t]) for t in range(5)]
    assert_close(within.apply(restored, data()), jnp.stack(steps, axis=1))


def state_of(strategy):
    """Return a training state and the step that moves it."""
    wrapper = TimeDistributed(Net(norm=True), strategy=strategy)
    variables = jax.jit(wrapper.init)(KEY, data())
    state = TrainState.create(
        apply_fn=wrapper.apply, params=variables["params"], tx=optax.sgd(0.1, momentum=0.9)
    )

    @jax.jit
    def step(state, statistics):
        def loss(params):
            output, updates = wrapper.apply(
                {"params": params, "batch_stats": statistics},
                data(),
                train=True,
                mutable=["batch_stats"],
            )
            return (output**2).mean(), updates["batch_stats"]

        gradients, statistics = jax.grad(loss, has_aux=True)(state.params)
        return state.apply_gradients(grads=gradients), statistics

    return state, variables["batch_stats"], step


def test_training_goes_on_under_another_strategy(checkpoint):
    save, restore = checkpoint
    state, statistics, fold = state_of("fold")
    state, statistics = fold(state, statistics)
    save({"state": flax.serialization.to_state_dict(state), "statistics": statistics})
    fresh, first, vmap = state_of("vmap")
    target = {"state": flax.serialization.to_state_dict(fresh), "statistics": first}
    restored = restore(target)
    resumed = flax.serialization.from_state_dict(fresh, restored["state"])
    expected, expected_statistics = fold(state, statistics)
    actual, actual_statistics = vmap(resumed, restored["statistics"])
    assert actual.step == 2
    assert_close(actual.params, expected.params, atol=1e-5)
    assert_close(actual.opt_state, expected.opt_state, atol=1e-5)
    assert_close(actual_statistics, expected_statistics)


def test_bytes_of_linen_variables_go_back_into_any_strategy(trained):
    encoded = flax.serialization.to_bytes(trained)
    for strategy in STRATEGIES:
        wrapper = TimeDistributed(Net(norm=True), strategy=strategy)
        target = jax.eval_shape(wrapper.init, KEY, data())
        assert_same(flax.serialization.from_bytes(target, encoded), trained)
    bare = Holder(Net(norm=True)).init(KEY, data()[:, 0])
    assert_same(flax.serialization.from_bytes(bare, encoded), trained)


def nnx_model(strategy, seed=0, norm=True):
    return tdjax.nnx.TimeDistributed(NnxNet(norm=norm, rate=0.5, seed=seed), strategy=strategy)


def evaluated(model):
    """Return the output of a copy in evaluation."""
    copy = nnx.clone(model)
    copy.eval()
    return copy(data())


def test_nnx_statistics_are_restored_under_any_strategy(checkpoint):
    save, restore = checkpoint
    source = nnx_model("fold")
    source(data())
    _, state = nnx.split(source)
    save(state)
    for strategy in OTHERS:
        graph, fresh = nnx.split(nnx_model(strategy, seed=1))
        restored = restore(jax.eval_shape(lambda fresh=fresh: fresh))
        assert_same(restored, state)
        assert_close(evaluated(nnx.merge(graph, restored)), evaluated(source))


def test_nnx_streams_are_restored_and_go_on_with_the_same_noise(checkpoint):
    save, restore = checkpoint
    source = nnx_model("fold", norm=False)
    source(data())
    save(nnx.state(source))
    models = {strategy: nnx_model(strategy, seed=1, norm=False) for strategy in OTHERS}
    for model in models.values():
        nnx.update(model, restore(nnx.state(model)))
        assert model.layer.dropout.rngs.count.get_value() == 1
    expected = source(data())
    for model in models.values():
        output = model(data())
        assert_close(output, expected)
        np.testing.assert_array_equal(output == 0, expected == 0)


def test_an_nnx_layer_moves_into_a_wrapper_and_out(checkpoint):
    save, restore = checkpoint
    net = NnxNet(norm=True, rate=0.5)
    net(data()[:, 0])
    save(nnx.state(net))
    model = nnx_model("fold", seed=1)
    nnx.update(model, {"layer": restore(nnx.state(model)["layer"])})
    assert_same(nnx.state(model.layer), nnx.state(net))
    alone = nnx.clone(net)
    alone.eval()
    assert_close(evaluated(model), jnp.stack([alone(data()[:, t]) for t in range(5)], axis=1))
    other = NnxNet(norm=True, rate=0.5, seed=2)
    nnx.update(other, nnx.state(model)["layer"])
    assert_same(nnx.state(other), nnx.state(net))


def test_bytes_of_an_nnx_state_go_back_into_any_strategy():
    source = nnx_model("fold")
    source(data())
    kept = (nnx.Param, nnx.BatchStat)
    encoded = flax.serialization.msgpack_serialize(nnx.to_pure_dict(nnx.state(source, kept)))
    for strategy in OTHERS:
        model = nnx_model(strategy, seed=1)
        state = nnx.state(model, kept)
        nnx.replace_by_pure_dict(state, flax.serialization.msgpack_restore(encoded))
        nnx.update(model, state)
        assert_close(evaluated(model), evaluated(source))
