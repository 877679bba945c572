"""What a program spread over a mesh computes on each device, and what it sends."""

import jax
import jax.numpy as jnp
import meshes
import pytest
from casebook import array
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import tdjax
from tdjax import Fold, Vmap

STRATEGIES = [Vmap(), Fold(), Fold(chunk_size=2, unroll=True)]


def convs(kernels, x):
    for kernel in kernels:
        numbers = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
    return x


def spread(strategy, partition):
    return tdjax.time_distributed(convs, in_axes=(None, 1), strategy=strategy, partition=partition)


def loss(strategy, partition):
    return lambda kernels, x: spread(strategy, partition)(kernels, x).sum()


@pytest.fixture(scope="module", params=["auto", "explicit"])
def placed(request):
    mesh = meshes.make(request.param, data=2, seq=4)
    kernels = [meshes.put(mesh, array(3, 3, 2, 2, seed=seed)) for seed in range(2)]
    return kernels, meshes.put(mesh, array(4, 8, 5, 5, 2), "data", "seq")


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_nothing_moves_forward_and_no_flop_is_spent_twice(strategy, placed):
    program = meshes.compiled(spread(strategy, P("data", "seq")), *placed)
    alone = meshes.compiled(
        spread(strategy, None), *jax.tree.map(jnp.asarray, jax.device_get(placed))
    )
    assert meshes.collectives(program) == {}
    assert program.cost_analysis()["flops"] * 8 == alone.cost_analysis()["flops"]


def test_a_reshape_by_hand_gathers_what_is_spread(placed):
    def by_hand(kernels, x):
        return convs(kernels, x.reshape(-1, *x.shape[2:])).reshape(x.shape)

    mesh = placed[1].sharding.mesh
    if mesh.axis_types[0] == AxisType.Explicit:
        with pytest.raises(Exception, match="This reshape is not supported"):
            meshes.compiled(by_hand, *placed)
    else:
        assert meshes.collectives(meshes.compiled(by_hand, *placed))


def test_only_the_gradients_of_weights_are_summed(placed):
    of_weights = meshes.compiled(jax.grad(loss(Fold(), P("data", "seq"))), *placed)
    of_inputs = meshes.compiled(jax.grad(loss(Fold(), P("data", "seq")), 1), *placed)
    assert set(meshes.collectives(of_weights)) == {"all-reduce"}
    assert meshes.collectives(of_inputs) == {}


def test_split_weights_are_gathered_once(placed):
    kernels, x = placed
    mesh = x.sharding.mesh
    split = [meshes.put(mesh, kernel, None, None, "data") for kernel in kernels]
    program = meshes.compiled(spread(Vmap(chunk_size=1), P("data", "seq")), split, x)
    # One for each array, or one for both: never one for each step.
    assert meshes.collectives(program).pop("all-gather") <= len(kernels)
    assert set(meshes.collectives(program)) == {"all-gather"}


def test_a_feature_map_that_all_steps_share_is_split_with_its_rows():
    mesh = meshes.make("auto", data=4)
    features = meshes.put(mesh, array(4, 5), "data")
    boxes = meshes.put(mesh, array(4, 3, 2), "data")
    step = tdjax.time_distributed(
        lambda features, box: features.sum(-1, keepdims=True) * box,
        in_axes=(None, 1),
        partition=P("data"),
    )
    assert meshes.collectives(meshes.compiled(step, features, boxes)) == {}
