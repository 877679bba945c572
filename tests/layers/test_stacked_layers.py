"""Layers stacked by `nnx.vmap`, `nnx.scan`, `nn.scan` and `nn.vmap`: a stream is many keys."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array
from flax import nnx
from oracle import assert_same

import tdjax.linen
import tdjax.nnx
from tdjax import Fold

BATCH, TIME, WIDTH = 3, 4, 5
LAYERS = BATCH  # as many as rows: keys of layers must not be taken for keys of rows
X = array(BATCH, TIME, WIDTH)
LENGTHS = np.array([4, 1, 2], np.int32)
REAL = (np.arange(TIME) < LENGTHS[:, None])[..., None]
STRATEGIES = ["vmap", "map", Fold(chunk_size=5)]
MASKED = ["fold", "packed"]

NNX = {}


def case(made):
    NNX[made.__name__] = made
    return made


class Block(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, rngs=None):
        return self.dropout(jnp.tanh(self.dense(x)), rngs=rngs)


def stacked(rngs, splits):
    """Return blocks whose arrays and streams have one leading axis for each split."""
    make = Block
    for _ in splits:
        make = nnx.vmap(make, in_axes=(0,), out_axes=0)
    return nnx.split_rngs(splits=splits if len(splits) > 1 else splits[0])(make)(rngs)


def through(x, block):
    return block(x)


SCAN = {"in_axes": (nnx.Carry, 0), "out_axes": nnx.Carry}


@case
class ScanOverLayers(nnx.Module):
    def __init__(self, rngs):
        self.blocks = stacked(rngs, (LAYERS,))

    def __call__(self, x):
        return nnx.scan(through, **SCAN)(x, self.blocks)


@case
class ScanInScan(nnx.Module):
    def __init__(self, rngs):
        self.blocks = stacked(rngs, (LAYERS, 2))

    def __call__(self, x):
        return nnx.scan(nnx.scan(through, **SCAN), **SCAN)(x, self.blocks)


@case
class VmapOverLayers(nnx.Module):
    def __init__(self, rngs):
        self.blocks = stacked(rngs, (LAYERS,))

    def __call__(self, x):
        return nnx.vmap(through, in_axes=(None, 0), out_axes=1)(x, self.blocks)


@case
class SplitInTheCall(nnx.Module):
    def __init__(self, rngs):
        self.rngs = rngs

    def __call__(self, x):
        @nnx.split_rngs(splits=LAYERS)
        @nnx.vmap(in_axes=(0, None), out_axes=1)
        def noisy(rngs, x):
            return x + jax.random.normal(rngs.dropout(), x.shape)

        return noisy(self.rngs, x)


@case
class SplitOffInTheCall(nnx.Module):
    def __init__(self, rngs):
        self.rngs = rngs

    def __call__(self, x):
        forked = self.rngs.split(LAYERS)
        noisy = nnx.vmap(
            lambda rngs, x: x * jax.random.normal(rngs.dropout(), x.shape), in_axes=(0, None)
        )
        return noisy(forked, x).sum(0)


@case
class GivenByKeyword(nnx.Module):
    def __init__(self, rngs):
        self.blocks = stacked(rngs, (LAYERS,))

    def __call__(self, x, rngs):
        scan = nnx.scan(
            lambda x, block, rngs: block(x, rngs), in_axes=(nnx.Carry, 0, 0), out_axes=nnx.Carry
        )
        return scan(x, self.blocks, rngs)

    def given(self):
        return {"rngs": nnx.Rngs(dropout=3).split(LAYERS)}


def with_keys_of_step(node, rng, step):
    """Return a copy whose keys have the number of a step folded in."""
    graph, keys, rest = nnx.split(node, nnx.RngKey, ...)

    def fold_in(key):
        flat = jax.vmap(jax.random.fold_in, (0, None))(key.reshape(-1), step)
        return flat.reshape(key.shape)

    keys = keys if rng == "shared" else jax.tree.map(fold_in, keys)
    return nnx.merge(graph, keys, rest, copy=True)


def loop(layer, given, rng, x):
    def step(t):
        kwargs = {name: with_keys_of_step(node, rng, t) for name, node in given.items()}
        return with_keys_of_step(layer, rng, t)(x[:, t], **kwargs)

    return jnp.stack([step(t) for t in range(x.shape[1])], 1)


def outputs(graph, state, given, rng, x):
    """Return what the loop and all strategies give, with a mask and without."""

    def run(strategy, **mask):
        layer = nnx.merge(graph, state, copy=True)
        wrapped = tdjax.nnx.TimeDistributed(layer, strategy=strategy, rng=rng)
        output = wrapped(x, **mask, **{k: nnx.clone(node) for k, node in given.items()})
        return output, nnx.state(layer, nnx.RngCount)

    def once():
        layer, kwargs = (
            nnx.merge(graph, state, copy=True),
            {k: nnx.clone(v) for k, v in given.items()},
        )
        layer(x[:, 0], **kwargs)
        return nnx.state(layer, nnx.RngCount)

    expected = loop(nnx.merge(graph, state, copy=True), given, rng, x), once()
    masked = [run(each, seq_lengths=LENGTHS) for each in MASKED]
    return expected, [run(each) for each in STRATEGIES], masked


@pytest.mark.parametrize(
    ("name", "rng"), [*((name, "split") for name in NNX), ("ScanOverLayers", "shared")]
)
def test_nnx_layers_draw_the_bits_of_the_loop(name, rng):
    layer = NNX[name](nnx.Rngs(params=0, dropout=1))
    given = layer.given() if hasattr(layer, "given") else {}
    graph, state = nnx.split(layer)
    run = jax.jit(lambda state, x: outputs(graph, state, given, rng, x))
    expected, found, masked = jax.device_get(run(state, X))
    for strategy, each in zip(STRATEGIES, found, strict=True):
        assert_same(each, expected)
        assert (each[0][:, 0] != each[0][:, 1]).any(), strategy
    real = REAL.reshape(*REAL.shape, *[1] * (expected[0].ndim - 3))
    for each in masked:
        assert_same(each, (np.where(real, expected[0], np.float32(0)), expected[1]))


def test_nnx_layers_in_evaluation():
    layer = ScanOverLayers(nnx.Rngs(params=0, dropout=1))
    layer.eval()
    graph, state = nnx.split(layer)
    run = jax.jit(lambda state, x: outputs(graph, state, {}, "split", x))
    expected, found, masked = jax.device_get(run(state, X))
    for each in found:
        assert_same(each, expected)
    assert all(not count.any() for count in jax.tree.leaves(expected[1]))
    assert_same(masked[0], masked[1])


class Normed(nnx.Module):
    """Blocks before a layer whose statistics see all steps as one batch."""

    def __init__(self, rngs):
        self.blocks = stacked(rngs, (LAYERS,))
        self.norm = nnx.BatchNorm(WIDTH, rngs=rngs)

    def __call__(self, x):
        return self.norm(nnx.scan(through, **SCAN)(x, self.blocks))


def test_one_batch_of_all_steps_draws_the_same_bits():
    graph, state = nnx.split(Normed(nnx.Rngs(0)))

    def run(state, x):
        def one(strategy):
            layer = nnx.merge(graph, state, copy=True)
            output = tdjax.nnx.TimeDistributed(layer, strategy=strategy)(x)
            return output, nnx.state(layer, nnx.BatchStat)

        return one("vmap"), one("fold")

    assert_same(*jax.device_get(jax.jit(run)(state, X)))


class LinenBlock(nn.Module):
    train: bool = True

    @nn.compact
    def __call__(self, x, _=None):
        x = nn.Dropout(0.5, deterministic=not self.train)(jnp.tanh(nn.Dense(WIDTH)(x)))
        return x, None


SPLIT = {"variable_axes": {"params": 0}, "split_rngs": {"params": True, "dropout": True}}
LINEN = {
    "scan": lambda train: nn.scan(LinenBlock, length=LAYERS, **SPLIT)(train),
    "vmap": lambda train: nn.vmap(
        LinenBlock, in_axes=None, out_axes=(1, None), axis_size=LAYERS, **SPLIT
    )(train),
    "scan_of_remat": lambda train: nn.scan(nn.remat(LinenBlock), length=LAYERS, **SPLIT)(train),
}


@pytest.mark.parametrize(
    ("name", "rng"), [*((name, "split") for name in LINEN), ("scan", "shared")]
)
def test_linen_layers_draw_the_same_bits_under_every_strategy(name, rng):
    layer = LINEN[name](True)
    variables = LINEN[name](False).init(jax.random.key(0), X[:, 0])
    held = {"params": {"layer": variables["params"]}}
    keys = {"dropout": jax.random.key(1)}

    def run(variables, x):
        def one(strategy, **mask):
            wrapped = tdjax.linen.TimeDistributed(layer, strategy=strategy, rng=rng)
            return wrapped.apply(variables, x, rngs=keys, **mask)[0]

        still = tdjax.linen.TimeDistributed(LINEN[name](False), strategy="auto")
        return (
            [one(each) for each in STRATEGIES],
            [one(each, seq_lengths=LENGTHS) for each in MASKED],
            still.apply(variables, x)[0],
        )

    found, masked, still = jax.device_get(jax.jit(run)(held, X))
    first = found[0]
    for each in found[1:]:
        assert_same(each, first)
    real = REAL.reshape(*REAL.shape, *[1] * (first.ndim - 3))
    for each in masked:
        assert_same(each, np.where(real, first, np.float32(0)))
    dropped = (first == 0).reshape(BATCH, TIME, -1)
    assert dropped.any()
    assert (dropped[:, 0] == dropped[:, 1]).all() == (rng == "shared")
    loop = jax.jit(lambda v, x: [LINEN[name](False).apply(v, x[:, t])[0] for t in range(TIME)])
    assert_same(still, np.stack(jax.device_get(loop(variables, X)), 1))
