"""Flax layers spread over a mesh: what one device gives, values, statistics, noise, gradients."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import meshes
import numpy as np
import pytest
from casebook import array
from flax import nnx
from jax.sharding import PartitionSpec as P
from oracle import assert_same

import tdjax
from tdjax import Fold, StrategyError, Vmap

BOTH = P("data", "seq")
X = array(4, 8, 6)


class Net(nn.Module):
    """Batch statistics, noise, something sown for every row and for every step."""

    dropout: float = 0.5

    @nn.compact
    def __call__(self, x, train=True):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(5)(x))
        self.sow("intermediates", "normal", x)
        return nn.Dropout(self.dropout, deterministic=not train)(jnp.tanh(x))


def linen_call(partition, x, variables, layer=None, mask=None, train=True, **options):
    """Return output, updates and the gradient of the parameters."""
    wrapper = tdjax.linen.TimeDistributed(layer or Net(), partition=partition, **options)

    def loss(params, x):
        output, updates = wrapper.apply(
            {**variables, "params": params},
            x,
            train=train,
            mask=mask,
            rngs={"dropout": jax.random.key(1)},
            mutable=["batch_stats", "intermediates"] if train else ["intermediates"],
        )
        return (output.astype(jnp.float32) ** 2).sum(), (output, updates)

    return jax.grad(loss, has_aux=True)(variables["params"], x)


NET = Net()


@functools.cache
def variables_of(layer):
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return jax.jit(tdjax.linen.TimeDistributed(layer).init)(keys, X)


def both(mesh, partition, layer=NET, x=X, **options):
    variables = {k: v for k, v in variables_of(layer).items() if k != "intermediates"}
    run = functools.partial(linen_call, variables=variables, layer=layer, **options)
    expected = jax.jit(functools.partial(run, None))(x)
    with jax.set_mesh(mesh):
        spec = partition or BOTH
        got = jax.jit(functools.partial(run, partition))(meshes.put(mesh, x, *spec))
    return jax.device_get(got), jax.device_get(expected)


@pytest.mark.parametrize(
    "strategy, kind",
    [("vmap", "auto"), ("vmap", "explicit"), ("fold", "auto"), ("auto", "explicit")],
)
def test_pooled_statistics_are_those_of_all_devices(strategy, kind):
    mesh = meshes.make(kind, data=2, seq=4)
    got, expected = both(mesh, BOTH if kind == "auto" else None, strategy=strategy)
    assert_same(got, expected)


def test_statistics_of_each_step():
    assert_same(*both(meshes.make("auto", data=2, seq=4), BOTH, pooled=False))


class Norms(nn.Module):
    """Batch normalization with other settings than Flax's own, one upon the other."""

    @nn.compact
    def __call__(self, x, train=True):
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.5)
        x = norm(axis=(1, 2), use_fast_variance=False)(nn.Dense(6)(x).reshape(-1, 3, 2))
        return norm(use_scale=False)(jnp.tanh(x), mask=jnp.array([True, True, False])[:, None])


# Devices of the last steps have no real row, others fewer than their neighbors.
REAL = jnp.arange(8)[None] < jnp.array([5, 5, 5, 2])[:, None]


@pytest.mark.parametrize(
    "kind, layer, options",
    [
        ("explicit", NET, {"pooled": False}),
        ("auto", Norms(), {"masked_output": "keep"}),
        ("auto", NET, {"mask": jnp.zeros((4, 8), bool)}),
    ],
)
def test_statistics_of_real_rows_are_those_of_all_devices(kind, layer, options):
    options = {"mask": REAL, **options}
    padded = jnp.where(options["mask"][:, :, None], X, jnp.nan)
    mesh = meshes.make(kind, data=2, seq=4)
    got, expected = both(mesh, BOTH if kind == "auto" else None, layer, padded, **options)
    assert_same(got, expected, scale=3)  # a bias in front of a normalization has no gradient
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got[0]))


@pytest.mark.parametrize("rng", ["split", "shared"])
def test_noise_in_evaluation_of_statistics(rng):
    class Noise(nn.Module):
        @nn.compact
        def __call__(self, x, train=True):
            return nn.Dropout(0.5, deterministic=False)(nn.Dense(5)(x))

    mesh = meshes.make("auto", data=2, seq=4)
    assert_same(*both(mesh, BOTH, layer=Noise(), strategy=Fold(chunk_size=3), rng=rng))


def test_masked_evaluation():
    mask = jnp.arange(8)[None] < jnp.array([3, 8, 0, 5])[:, None]
    mesh = meshes.make("auto", data=2, seq=4)
    assert_same(*both(mesh, BOTH, mask=mask, train=False))


def test_only_statistics_and_gradients_are_sent():
    mesh = meshes.make("auto", data=2, seq=4)
    variables = {k: v for k, v in variables_of(Net()).items() if k != "intermediates"}
    x = meshes.put(mesh, X, "data", "seq")
    evaluated = meshes.compiled(
        lambda x: tdjax.linen.TimeDistributed(Net(), partition=BOTH).apply(
            variables, x, train=False
        ),
        x,
    )
    assert meshes.collectives(evaluated) == {}
    trained = meshes.compiled(lambda x: linen_call(BOTH, x, variables), x)
    assert set(meshes.collectives(trained)) == {"all-reduce"}


def test_initialised_on_the_mesh_as_off_it():
    for kind in ("auto", "explicit"):
        mesh = meshes.make(kind, data=2, seq=4)
        wrapper = tdjax.linen.TimeDistributed(Net(), partition=BOTH)
        with jax.set_mesh(mesh):
            keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
            made = jax.jit(wrapper.init)(keys, meshes.put(mesh, X, "data", "seq"))
        assert_same(jax.device_get(made["params"]), jax.device_get(variables_of(Net())["params"]))


@pytest.mark.parametrize("kind, mask", [("auto", None), ("explicit", REAL)])
def test_nnx(kind, mask):
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(6, 5, rngs=rngs)
            self.norm = nnx.BatchNorm(5, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.dropout(self.norm(self.dense(x)))

    @functools.partial(nnx.jit, static_argnums=0)
    def run(partition, layer, x):
        def loss(layer, x):
            output = tdjax.nnx.TimeDistributed(layer, partition=partition)(x, mask=mask)
            return (output**2).sum(), output

        gradients, output = nnx.grad(loss, has_aux=True)(layer, x)
        return output, gradients, nnx.state(layer, nnx.BatchStat)

    mesh = meshes.make(kind, data=2, seq=4)
    x = X if mask is None else jnp.where(mask[:, :, None], X, jnp.nan)
    expected = run(None, Block(nnx.Rngs(0)), x)
    with jax.set_mesh(mesh):
        placed = meshes.put(mesh, x, "data", "seq")
        got = run(BOTH if kind == "auto" else None, Block(nnx.Rngs(0)), placed)
    assert_same(*(nnx.to_pure_dict(nnx.State({"all": jax.device_get(v)})) for v in (got, expected)))


class Mixing(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(5)(x))
        return x - x.mean(0)


class OwnStatistics(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        x = nn.Dense(5)(x)
        mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(5))
        mean.value = mean.value * 0.9 + x.mean(0) * 0.1
        return x


class OwnBesideFlax(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        own = self.variable("batch_stats", "own", lambda: jnp.zeros(6))
        own.value = own.value * 0.9 + x.mean(0) * 0.1
        return nn.BatchNorm(use_running_average=not train)(x)


@pytest.mark.parametrize(
    "layer, options, words",
    [
        (Mixing(), {}, r"spread over 'data'.*reduce_sum"),
        (Mixing(), {"partition": P(None, "seq")}, r"apart from them its rows are not independent"),
        (OwnStatistics(), {}, r"without averaging over a named axis"),
        (OwnBesideFlax(), {"pooled": False}, r"updates .*batch_stats/own without averaging"),
    ],
)
def test_what_devices_cannot_do_alone(layer, options, words):
    mesh = meshes.make("auto", data=2, seq=4)
    options = {"partition": BOTH, **options}
    with pytest.raises(StrategyError, match=words):
        both(mesh, layer=layer, **options)


def test_steps_in_order_are_not_spread():
    class Counter(nn.Module):
        @nn.compact
        def __call__(self, x):
            count = self.variable("state", "count", lambda: jnp.zeros(()))
            count.value = count.value + x.sum()
            return x

    wrapper = tdjax.linen.TimeDistributed(Counter(), state="carry", partition=P(None, "seq"))
    with (
        jax.set_mesh(meshes.make("auto", seq=4)),
        pytest.raises(StrategyError, match=r"one after the other, and they are spread"),
    ):
        wrapper.apply({"state": {"layer": {"count": jnp.zeros(())}}}, X, mutable=["state"])


class Memory(nn.Module):
    """Hands on its rows, what they were, and a number of steps."""

    summed: bool = False

    @nn.compact
    def __call__(self, x, train=True):
        total = self.variable("state", "total", lambda: jnp.zeros(x.shape))
        last = self.variable("state", "last", lambda: jnp.zeros(x.shape))
        count = self.variable("state", "count", lambda: jnp.zeros(()))
        output = total.value * 0.5 + last.value * count.value + nn.Dense(6)(x)
        total.value, last.value = jnp.tanh(output), x
        count.value = count.value + (x.sum() if self.summed else 1)
        return nn.BatchNorm(use_running_average=not train)(output)


def test_steps_in_order_where_the_batch_alone_is_spread():
    variables = variables_of(Memory())

    def run(layer, partition, x):
        wrapper = tdjax.linen.TimeDistributed(
            layer, state="carry", pooled=False, partition=partition
        )

        def loss(params):
            output, after = wrapper.apply(
                {**variables, "params": params}, x, mask=REAL, mutable=["state", "batch_stats"]
            )
            return (output**2).sum(), (output, after)

        return jax.grad(loss, has_aux=True)(variables["params"])

    run = jax.jit(run, static_argnums=(0, 1))
    with jax.set_mesh(meshes.make("auto", data=2)):
        got = run(Memory(), P("data"), X)
        with pytest.raises(StrategyError, match=r"state/count.*would differ between.*reduce_sum"):
            run(Memory(summed=True), P("data"), X)
    assert_same(jax.device_get(got), jax.device_get(run(Memory(), None, X)))


def test_functions_and_modules_in_use():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = tdjax.time_distributed(nn.Dense(5), partition=BOTH, strategy=Vmap())(x)
            return tdjax.linen.TimeDistributed(jnp.tanh, partition=BOTH)(x)

    mesh = meshes.make("auto", data=2, seq=4)
    with jax.set_mesh(mesh):
        output, variables = Model().init_with_output(jax.random.key(0), X)
    dense = variables["params"]["Dense_0"]
    expected = jnp.tanh(X @ dense["kernel"] + dense["bias"])
    np.testing.assert_allclose(output, jax.device_get(expected), rtol=1e-5, atol=1e-5)
