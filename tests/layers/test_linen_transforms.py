"""The wrapper inside Flax's transforms and JAX's: the loop in its place gives the same."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax_cases import Holder, Net, data
from oracle import assert_same, loop, value_and_vjp

from tdjax.linen import TimeDistributed

KEY = jax.random.key(11)
BATCH, TIME, FEATURES = 2, 4, 3
SHAPE = (BATCH, TIME, FEATURES)


class Steps(nn.Module):
    """The plain loop, in the place of a wrapper."""

    layer: nn.Module

    def __call__(self, x, **kwargs):
        return jnp.stack([self.layer(x[:, t], **kwargs) for t in range(x.shape[1])], 1)


class OneBatch(nn.Module):
    """All steps as one batch, in the place of a wrapper: what pooled statistics are."""

    layer: nn.Module

    def __call__(self, x, **kwargs):
        rows = self.layer(x.reshape(-1, x.shape[-1]), **kwargs)
        return rows.reshape(*x.shape[:2], -1)


def td(strategy):
    return functools.partial(TimeDistributed, strategy=strategy)


class Clip(nn.Module):
    """A module that has a layer applied over time, by `place`."""

    place: Callable
    train: bool = False
    rate: float = 0.0

    @nn.compact
    def __call__(self, x):
        layer = Net(norm=True, rate=self.rate, sows=self.rate > 0)
        return self.place(layer)(x, train=self.train)


STACKED = {"params": 0, "batch_stats": 0, "intermediates": 0}
SPLIT = {"params": True, "dropout": True}


def ensemble(clip, x):
    copies = nn.vmap(
        Clip.__call__, in_axes=None, axis_size=2, variable_axes=STACKED, split_rngs=SPLIT
    )
    return copies(clip, x)


def scan_over_depth(clip, x):
    deep = nn.scan(
        lambda clip, x, _: (x + clip(x), None), length=2, variable_axes=STACKED, split_rngs=SPLIT
    )
    return deep(clip, x, None)[0]


def scan_over_clips(clip, x):
    if clip.is_initializing():  # Flax cannot make what is carried inside the scan
        return clip(x)
    stream = nn.scan(
        lambda clip, carry, x: (carry, clip(x)),
        variable_broadcast="params",
        variable_carry="batch_stats",
        variable_axes={"intermediates": 0},
        split_rngs={"params": False, "dropout": True},
    )
    return stream(clip, None, jnp.stack([x, 2.0 * x]))[1]


def twice(variables):
    return jax.tree.map(lambda leaf: 2.0 * leaf, variables)


def half(variables):
    return jax.tree.map(lambda leaf: 0.5 * leaf, variables)


def map_variables(clip, x):
    changed = nn.map_variables(
        Clip.__call__, "params", trans_in_fn=twice, trans_out_fn=half, init=clip.is_initializing()
    )
    return changed(clip, x)


def cond(clip, x):
    if clip.is_initializing():
        return clip(x)
    return nn.cond(x.sum() > 0, lambda clip, x: clip(x), lambda clip, x: -clip(x), clip, x)


def vjp(clip, x):
    output, pullback = nn.vjp(Clip.__call__, clip, x)
    return output, pullback(jnp.ones_like(output))


LIFTED = {
    "remat": lambda clip, x: nn.remat(Clip.__call__)(clip, x),
    "jit": lambda clip, x: nn.jit(Clip.__call__)(clip, x),
    "vmap": ensemble,
    "scan over depth": scan_over_depth,
    "scan over clips": scan_over_clips,
    "map_variables": map_variables,
    "cond": cond,
    "vjp": vjp,
}


class Model(nn.Module):
    """A clip inside one of Flax's transforms."""

    transform: str
    place: Callable
    train: bool = False
    rate: float = 0.0

    @nn.compact
    def __call__(self, x):
        clip = Clip(self.place, self.train, self.rate, name="clip")
        return LIFTED[self.transform](clip, x)


@pytest.mark.parametrize("transform", LIFTED)
def test_inside_the_transforms_of_flax(transform):
    x = data(*SHAPE)

    def run(place, train=False, rate=0.0):
        module = Model(transform, place, train, rate)
        mutable, rngs = ["batch_stats", "intermediates"], {"dropout": KEY}
        return lambda variables, x: module.apply(variables, x, mutable=mutable, rngs=rngs)

    def evaluate(places, *operands, **options):
        return {
            way: value_and_vjp(run(place, **options), operands) for way, place in places.items()
        }

    def wrapped(*operands):
        ways = {way: td(way) for way in ("fold", "vmap")}
        evaluated = evaluate({"fold": ways["fold"]}, *operands)
        trained = evaluate(ways, *operands, train=True)
        noisy = {way: run(ways[way], train=True, rate=0.5)(*operands) for way in ways}
        return evaluated, trained, noisy

    @jax.jit
    def results(*operands):
        loops = evaluate({"loop": Steps}, *operands)
        batches = evaluate({"loop": OneBatch}, *operands, train=True)
        evaluated, trained, noisy = wrapped(*operands)
        return evaluated | loops, trained | batches, noisy

    models = Model(transform, Steps), Model(transform, td("fold"), train=True)
    variables, initialized = jax.jit(lambda: [model.init(KEY, x) for model in models])()
    assert_same(initialized, variables)
    gc.collect()
    gc.freeze()  # for a trace that is still alive, JAX collects garbage
    with jax.checking_leaks():  # nothing is remembered meanwhile: compiling would take long
        jax.eval_shape(wrapped, variables, x)
    evaluated, trained, noisy = results(variables, x)
    for found in (evaluated, trained):
        expected = found.pop("loop")
        assert_same(found, dict.fromkeys(found, expected))
    assert_same(noisy["fold"], noisy["vmap"])
    assert jax.tree.leaves(noisy["fold"][1]["intermediates"])[0].shape[-3:] == SHAPE
    assert not jnp.allclose(jax.tree.leaves(noisy["fold"])[0], jax.tree.leaves(trained["fold"])[0])


OF_CLASSES = {
    "remat": nn.remat,
    "jit": nn.jit,
    "vmap": functools.partial(
        nn.vmap,
        in_axes=None,
        axis_size=2,
        variable_axes={"params": 0},
        split_rngs={"params": True},
    ),
}


@pytest.mark.parametrize("transform", OF_CLASSES)
def test_the_wrapper_is_a_class_to_transform(transform):
    class Parent(nn.Module):
        wrapper: type[nn.Module]

        def setup(self):
            self.steps = OF_CLASSES[transform](self.wrapper)(nn.Dense(3))

        def __call__(self, x):
            return self.steps(x)

    variables = Parent(Steps).init(KEY, data(*SHAPE))
    assert_same(Parent(TimeDistributed).init(KEY, data(*SHAPE)), variables)
    expected = Parent(Steps).apply(variables, data(*SHAPE))
    assert_same(Parent(TimeDistributed).apply(variables, data(*SHAPE)), expected)


LAYER = nn.Sequential(
    [
        nn.Dense(3),
        nn.BatchNorm(use_running_average=True),
        nn.Dropout(0.5, deterministic=False),
        jnp.tanh,
    ]
)


def plain(variables, key, x):
    """Apply the layer step by step."""

    def step(key, x):
        return Holder(LAYER).apply(variables, x, rngs={"dropout": key})

    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(x.shape[1]))
    return loop(step, (keys, x), (0, 1))


def wrapped(variables, key, x, strategy):
    wrapper = TimeDistributed(LAYER, strategy=strategy)
    return wrapper.apply(variables, x, rngs={"dropout": key})


def square(run):
    return lambda variables, x: (run(variables, x) ** 2).sum()


def hessian_vector_product(run, variables, x):
    gradient = jax.grad(square(run), (0, 1))
    tangents = jax.tree.map(jnp.cos, (variables, x))
    return jax.jit(functools.partial(jax.jvp, gradient))((variables, x), tangents)


def many_models(run, variables, x):
    models = jax.tree.map(lambda leaf: jnp.stack([leaf, 2.0 * leaf]), variables)
    return jax.vmap(run, (0, None))(models, x)


def scan(run, variables, x):
    return jax.lax.scan(lambda carry, x: (carry, run(variables, x)), None, jnp.stack([x, -x]))


def linearize(run, variables, x):
    output, linear = jax.linearize(run, variables, x)
    return output, linear(*jax.tree.map(jnp.cos, (variables, x)))


TRANSFORMS = {
    "jit": lambda run, variables, x: jax.jit(run)(variables, x),
    "checkpoint": lambda run, *operands: jax.jit(jax.grad(square(jax.checkpoint(run)), (0, 1)))(
        *operands
    ),
    "jvp of grad": hessian_vector_product,
    "linearize": linearize,
    "vmap over models": many_models,
    "vmap over data": lambda run, variables, x: jax.vmap(run, (None, 0))(
        variables, jnp.stack([x, -x])
    ),
    "scan": scan,
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_inside_the_transforms_of_jax(transform):
    x = data(*SHAPE)
    variables = Holder(LAYER).init({"params": KEY, "dropout": KEY}, x[:, 0])
    apply = TRANSFORMS[transform]
    actual = apply(lambda variables, x: wrapped(variables, KEY, x, "fold"), variables, x)
    in_loop = jax.jit(functools.partial(apply, lambda variables, x: plain(variables, KEY, x)))
    assert_same(actual, in_loop(variables, x))


@pytest.mark.parametrize("strategy", ["fold", "map"])
def test_keys_can_be_mapped(strategy):
    x, keys = data(*SHAPE), jax.random.split(KEY)
    variables = Holder(LAYER).init({"params": KEY, "dropout": KEY}, x[:, 0])
    actual = jax.vmap(wrapped, (None, 0, None, None))(variables, keys, x, strategy)
    expected = jnp.stack([jax.jit(plain)(variables, key, x) for key in keys])
    assert_same(actual, expected)


def test_training_inside_vmap_and_scan_of_jax():
    x = data(*SHAPE)
    layer = Net(norm=True, rate=0.5)
    variables = TimeDistributed(layer).init(KEY, x)

    def trained(place, rate=0.5):
        module = place(Net(norm=True, rate=rate))

        def one(variables, key, x):
            output, after = module.apply(
                variables, x, train=True, mutable="batch_stats", rngs={"dropout": key}
            )
            return {**variables, **after}, output

        def all_steps(variables, key):
            return jax.lax.scan(lambda carry, x: one(carry, key, x), variables, jnp.stack([x, -x]))

        models = jax.tree.map(lambda leaf: jnp.stack([leaf, 2.0 * leaf]), variables)
        return jax.jit(jax.vmap(all_steps))(models, jax.random.split(KEY))

    expected = trained(OneBatch, rate=0.0)
    for strategy in ("fold", "vmap"):
        assert_same(trained(td(strategy), rate=0.0), expected)
    assert_same(trained(td("fold")), trained(td("vmap")))


def test_shapes_need_no_values():
    wrapper = TimeDistributed(Net(norm=True, rate=0.5))
    shape = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    variables = jax.eval_shape(wrapper.init, KEY, shape)
    assert variables == jax.eval_shape(Holder(Net(norm=True)).init, KEY, data(*SHAPE)[:, 0])
    found = jax.eval_shape(
        lambda v, x: wrapper.apply(v, x, train=True, mutable=True, rngs={"dropout": KEY}),
        variables,
        shape,
    )
    assert found == (shape, variables)


def test_a_wrapper_in_a_wrapper_is_a_loop_in_a_loop():
    x = data(2, 3, 2, 4)  # (batch, outer time, inner time, features)
    twice = TimeDistributed(TimeDistributed(nn.LayerNorm(), strategy="fold"), strategy="map")
    variables = jax.tree.map(jnp.cos, twice.init(KEY, x))
    assert jax.tree.map(jnp.shape, variables["params"]) == {
        "layer": {"layer": {"bias": (4,), "scale": (4,)}}
    }

    @jax.jit
    def run(*operands):
        in_loops = Steps(Steps(nn.LayerNorm()))
        return value_and_vjp(twice.apply, operands), value_and_vjp(in_loops.apply, operands)

    assert_same(*run(variables, x))


@pytest.mark.parametrize(
    "real",
    [
        {"seq_lengths": jnp.array([2, 0])},
        {"mask": jnp.array([[True, False, True], [False, True, True]])},
        {"mask": jnp.arange(12).reshape(2, 3, 2) % 5 > 1},
    ],
    ids=["lengths", "outer time", "both times"],
)
def test_a_mask_of_the_outer_time_or_of_both(real):
    x = data(2, 3, 2, 4)
    twice = TimeDistributed(TimeDistributed(nn.Dense(3)))
    variables = jax.tree.map(jnp.cos, twice.init(KEY, x))
    mask = real.get("mask", jnp.arange(3) < real.get("seq_lengths", jnp.zeros(2, int))[:, None])
    mask = jnp.broadcast_to(mask.reshape(2, 3, -1), (2, 3, 2))
    expected = jnp.where(mask[..., None], Steps(Steps(nn.Dense(3))).apply(variables, x), 0.0)
    padded = jnp.where(mask[..., None], x, jnp.nan)
    assert_same(twice.apply(variables, padded, **real), expected)


def test_one_wrapper_takes_clips_of_any_length():
    class Clips(nn.Module):
        @nn.compact
        def __call__(self, *clips):
            wrapper = TimeDistributed(nn.Dense(3), strategy="fold", name="wrapper")
            return [wrapper(clip) for clip in clips]

    clips = [data(2, time, 4) for time in (3, 5, 1, 0)]
    variables = Clips().init(KEY, *clips)
    assert jax.tree.map(jnp.shape, variables["params"]) == {
        "Dense_0": {"bias": (3,), "kernel": (4, 3)}
    }
    dense = variables["params"]["Dense_0"]
    expected = [clip @ dense["kernel"] + dense["bias"] for clip in clips]
    assert_same(Clips().apply(variables, *clips), expected)


def test_two_parents_share_a_wrapper():
    class Parent(nn.Module):
        wrapper: nn.Module

        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(self.wrapper(x))

    class Family(nn.Module):
        def setup(self):
            self.shared = TimeDistributed(Net(norm=True), strategy="fold")
            self.mother, self.father = Parent(self.shared), Parent(self.shared)

        def __call__(self, x):
            return self.mother(x), self.father(x)

    class Alone(nn.Module):
        def setup(self):
            self.shared = Holder(Net(norm=True))
            self.mother, self.father = Parent(self.shared), Parent(self.shared)

        def __call__(self, x):
            return self.mother(x), self.father(x)

    x = data(*SHAPE)
    variables = Family().init(KEY, x)
    assert set(variables["params"]) == {"shared", "mother", "father"}
    assert_same(variables, Alone().init(KEY, x[:, 0]))

    def in_loop(variables, x):
        return loop(lambda x: Alone().apply(variables, x), (x,))

    @jax.jit
    def run(*operands):
        return value_and_vjp(Family().apply, operands), value_and_vjp(in_loop, operands)

    assert_same(*run(variables, x))
