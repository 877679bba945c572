"""Inside a user's own `jax.shard_map`, as data-parallel training has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from oracle import assert_same

import tdjax
from tdjax import Fold, Vmap

X, W = array(4, 3, 5), array(5, 5, seed=1)
STRATEGIES = [
    "vmap", "map", "unroll", "fold", "auto", Vmap(chunk_size=2), Fold(chunk_size=4),
    Fold(chunk_size=4, unroll=True), Fold(chunk_size=4, remat=True),
]  # fmt: skip


def step(x, w):
    return jnp.tanh(x @ w) * 2.0


def plain(x, w):
    return jnp.stack([step(x[:, t], w) for t in range(3)], 1)


def loss(w, x, run):
    return (run(x, w) ** 2).mean()


def sharded(mesh, run, check):
    def local(x, w):
        value, gradient = jax.value_and_grad(loss)(w, x, run)
        if check:  # JAX has added up the gradients of what all devices share
            gradient = gradient / jax.lax.axis_size("data")
        else:
            gradient = jax.lax.pmean(gradient, "data")
        return run(x, w), jax.lax.pmean(value, "data"), gradient

    out = (P("data"), P(), P())
    mapped = jax.shard_map(
        local, mesh=mesh, in_specs=(P("data"), P()), out_specs=out, check_vma=check
    )
    with jax.set_mesh(mesh):
        place = jax.NamedSharding
        return jax.jit(mapped)(
            jax.device_put(X, place(mesh, P("data"))), jax.device_put(W, place(mesh, P()))
        )


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_values_and_gradients(kind, check, strategy):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
    run = tdjax.time_distributed(step, in_axes=(1, None), strategy=strategy)
    got = sharded(mesh, run, check)
    expected = jax.jit(jax.value_and_grad(lambda w: loss(w, X, plain)))(W)
    assert_same(jax.device_get(got[0]), plain(X, W))
    assert_same(jax.device_get(got[1:]), expected)
    assert np.isfinite(got[1])
