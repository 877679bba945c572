"""Inside a user's own `jax.shard_map`, as data-parallel training has it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from cases import array
from flax import nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from oracle import assert_same

import tdjax
import tdjax.linen
import tdjax.nnx
from tdjax import Fold, Vmap

X, W = array(4, 3, 5), array(5, 5, seed=1)
# The second device has nothing but padding.
LENGTHS = jnp.array([3, 1, 0, 0])
STRATEGIES = [
    "vmap", "map", "unroll", "fold", "auto", Vmap(chunk_size=2), Fold(chunk_size=4),
    Fold(chunk_size=4, unroll=True), Fold(chunk_size=4, remat=True),
]  # fmt: skip
KINDS = pytest.mark.parametrize(
    "kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"]
)
CHECKS = pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])


def step(x, w):
    return jnp.tanh(x @ w) / jnp.linalg.norm(x, axis=-1, keepdims=True)


def loop(x, w, lengths=None):
    outputs = jnp.stack([step(x[:, t], w) for t in range(x.shape[1])], 1)
    if lengths is None:
        return outputs
    return jnp.where((jnp.arange(x.shape[1]) < lengths[:, None])[..., None], outputs, 0.0)


def value_and_gradient(run, weights, *args):
    """Return the output, and the gradient of its mean square for the weights."""

    def loss(weights):
        return (run(weights, *args) ** 2).mean()

    return run(weights, *args), jax.grad(loss)(weights)


def sharded(kind, run, weights, *args, check=True):
    """Return what data-parallel training gives on two devices: outputs, the mean gradient."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))

    def local(weights, *args):
        output, gradient = value_and_gradient(run, weights, *args)
        if check:  # JAX has added up the gradients of what all devices share
            return output, jax.tree.map(lambda leaf: leaf / jax.lax.axis_size("data"), gradient)
        return output, jax.lax.pmean(gradient, "data")

    mapped = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(P(), *[P("data")] * len(args)),
        out_specs=(P("data"), P()),
        check_vma=check,
    )
    with jax.set_mesh(mesh):
        place = jax.NamedSharding
        given = [jax.device_put(arg, place(mesh, P("data"))) for arg in args]
        found = jax.jit(mapped)(jax.device_put(weights, place(mesh, P())), *given)
    return jax.device_get(found)


@KINDS
@CHECKS
@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_values_and_gradients(kind, check, strategy):
    run = tdjax.time_distributed(step, in_axes=(1, None), strategy=strategy)
    got = sharded(kind, lambda w, x: run(x, w), W, X, check=check)
    assert_same(got, value_and_gradient(lambda w: loop(X, w), W))


@KINDS
@CHECKS
@pytest.mark.parametrize("strategy", [*STRATEGIES, "packed"], ids=str)
def test_with_a_mask_and_a_device_that_has_padding_alone(kind, check, strategy):
    check_masked(kind, check, strategy)


@KINDS
@CHECKS
def test_packed_steps_at_once(kind, check, at_once):
    with at_once():
        check_masked(kind, check, "packed")


def check_masked(kind, check, strategy):
    run = tdjax.time_distributed(step, in_axes=(1, None), strategy=strategy)
    real = (jnp.arange(3) < LENGTHS[:, None])[..., None]
    x = jnp.where(real, X, 0.0)  # where a norm has no gradient
    masked = lambda w, x, lengths: run(x, w, seq_lengths=lengths)  # noqa: E731
    got = sharded(kind, masked, W, x, LENGTHS, check=check)
    filled = jnp.where(real, X, 1.0)
    assert_same(got, value_and_gradient(lambda w: loop(filled, w, LENGTHS), W))


@pytest.mark.parametrize("strategy", ["auto", "map", "fold", "packed", Fold(chunk_size=4)], ids=str)
def test_weights_that_the_step_closes_over(strategy):
    def run(w, x, lengths):
        inner = jax.jit(lambda x: jnp.tanh(x @ w))
        wrapped = tdjax.time_distributed(lambda x: inner(x) * w.sum(), strategy=strategy)
        return wrapped(x, seq_lengths=lengths)

    def expected(w):
        outputs = jnp.tanh(X @ w) * w.sum()
        return jnp.where((jnp.arange(3) < LENGTHS[:, None])[..., None], outputs, 0.0)

    got = sharded(AxisType.Auto, run, W, X, LENGTHS)
    assert_same(got, value_and_gradient(expected, W))


@KINDS
@pytest.mark.parametrize("manual", [("data", "model"), ("data",)], ids="-".join)
@pytest.mark.parametrize("spec", [P("data"), P("model"), P(None, "model")], ids=str)
def test_a_partition_inside_says_to_leave_it_away(kind, manual, spec):
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(kind, kind))
    batch = ("data", "model") if kind is AxisType.Explicit and len(manual) > 1 else "data"
    x = jax.device_put(X, jax.NamedSharding(mesh, P(batch)))
    layer = tdjax.nnx.TimeDistributed(nnx.Linear(5, 5, rngs=nnx.Rngs(0)), partition=spec)
    placed = jax.NamedSharding(mesh, spec)
    function = tdjax.time_distributed(jnp.tanh, partition=placed)
    for run in (function, layer):
        mapped = jax.shard_map(
            run, mesh=mesh, in_specs=P(batch), out_specs=P(batch), axis_names=set(manual)
        )
        words = r"inside a jax.shard_map over 'data'.* leave partition out there"
        with jax.set_mesh(mesh), pytest.raises(ValueError, match=words):
            jax.eval_shape(jax.jit(mapped), x)


@KINDS
@pytest.mark.parametrize("strategy", ["auto", "map", "fold", Fold(chunk_size=4)], ids=str)
def test_flax_wrappers(kind, strategy):
    linen = tdjax.linen.TimeDistributed(nn.Dense(3), strategy=strategy)
    variables = linen.init(jax.random.key(0), X)
    got = sharded(kind, linen.apply, variables, X)
    assert_same(got, value_and_gradient(lambda v: linen.apply(v, X), variables))

    layer = nnx.Linear(5, 3, rngs=nnx.Rngs(0))
    graph, state = nnx.split(tdjax.nnx.TimeDistributed(layer, strategy=strategy))

    def run(state, x):
        return nnx.merge(graph, state)(x)

    assert_same(sharded(kind, run, state, X), value_and_gradient(lambda s: run(s, X), state))
