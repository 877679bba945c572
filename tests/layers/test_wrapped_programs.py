"""What the wrappers cost: the compiled program of the bare layer, and as few traces as promised."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from compiling import AS_USERS_DO
from flax import nnx
from flax.errors import ScopeParamShapeError
from flax_cases import FEATURES, NnxNet, data

import tdjax
from tdjax.comparison.hlo import canonical
from tdjax.workloads.faster_rcnn.head import RoIHead

pytestmark = pytest.mark.usefixtures("optimised")

KEY = jax.random.key(0)

LAYERS = {
    "dense": (nn.Dense(8), data(4, 3, 16)),
    "conv": (nn.Conv(4, (3, 3)), data(2, 3, 8, 8, 3)),
    "roi_head": (RoIHead(4), data(1, 3, 14, 14, 64)),
}


def bare_vmap(layer):
    return jax.vmap(layer.apply, (None, 1), 1)


def bare_fold(layer):
    def folded(variables, x):
        batch, time, *rest = x.shape
        output = layer.apply(variables, x.reshape(batch * time, *rest))
        return jax.tree.map(lambda y: y.reshape(batch, time, *y.shape[1:]), output)

    return folded


def program(function, *args):
    return canonical(jax.jit(function).lower(*args).compile(AS_USERS_DO).as_text())


@pytest.mark.parametrize("strategy, bare", [("vmap", bare_vmap), ("fold", bare_fold)])
@pytest.mark.parametrize("name", LAYERS)
def test_a_wrapped_layer_compiles_to_what_the_bare_layer_does(name, strategy, bare):
    layer, x = LAYERS[name]
    variables = jax.eval_shape(layer.init, KEY, x[:, 0])
    wrapper = tdjax.linen.TimeDistributed(layer, strategy=strategy)
    held = {collection: {"layer": tree} for collection, tree in variables.items()}
    assert program(wrapper.apply, held, x) == program(bare(layer), variables, x)


@pytest.mark.parametrize("strategy", ["vmap", "fold"])
def test_a_wrapped_nnx_layer_compiles_to_what_the_bare_layer_does(strategy):
    net, x = NnxNet(norm=True), data()
    net.eval()
    graph, state = nnx.split(net)

    def bare(state, x):
        net = nnx.merge(graph, state)
        if strategy == "vmap":
            return jax.vmap(net, 1, 1)(x)
        return net(x.reshape(-1, FEATURES)).reshape(*x.shape[:2], 3)

    def wrapped(state, x):
        return tdjax.nnx.TimeDistributed(nnx.merge(graph, state), strategy=strategy)(x)

    assert program(wrapped, state, x) == program(bare, state, x)


def traced_layer(seen, norm):
    class Traced(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            seen.append(x.shape)
            x = nn.Dense(3)(x)
            return nn.BatchNorm(use_running_average=not train)(x) if norm else x

    return Traced()


@pytest.mark.parametrize("time", [0, 1, 2, 50])
@pytest.mark.parametrize("norm", [False, True], ids=["plain", "norm"])
@pytest.mark.parametrize("strategy", ["vmap", "fold", tdjax.Fold(chunk_size=3), "map", "auto"])
def test_init_and_apply_trace_the_layer_once_and_once_more_for_the_proof(strategy, norm, time):
    seen: list[tuple] = []
    wrapper = tdjax.linen.TimeDistributed(traced_layer(seen, norm), strategy=strategy)
    x = jnp.ones((4, time, FEATURES))
    variables = jax.eval_shape(wrapper.init, KEY, x)
    assert len(seen) <= 2, seen
    seen.clear()
    jax.eval_shape(wrapper.apply, variables, x)
    assert len(seen) <= 2, seen
    if strategy in ("vmap", "map") and not norm:
        assert len(seen) == 1


@pytest.mark.parametrize("strategy", ["vmap", "fold", "auto"])
@pytest.mark.parametrize("train", [False, True])
def test_batch_statistics_cost_no_further_trace(strategy, train):
    seen: list[tuple] = []
    wrapper = tdjax.linen.TimeDistributed(traced_layer(seen, norm=True), strategy=strategy)
    x = jnp.ones((4, 5, FEATURES))
    variables = jax.eval_shape(wrapper.init, KEY, x)
    seen.clear()
    jax.eval_shape(
        lambda variables, x: wrapper.apply(variables, x, train, mutable=["batch_stats"]),
        variables,
        x,
    )
    assert len(seen) <= 2, seen


def test_shapes_of_parameters_are_still_checked():
    wrapper = tdjax.linen.TimeDistributed(nn.Dense(3), strategy="fold")
    variables = wrapper.init(KEY, data())
    with pytest.raises(ScopeParamShapeError, match="kernel"):
        wrapper.apply(variables, data(4, 5, FEATURES + 1))
