"""What a strategy compiles to: the program written by hand, and as few traces as promised."""

import collections
import re

import jax
import jax.numpy as jnp
import pytest
from cases import array
from compiling import AS_USERS_DO
from oracle import assert_same

import tdjax
from tdjax import Auto, Fold, Vmap
from tdjax.comparison.hlo.facts import fingerprint

pytestmark = pytest.mark.usefixtures("optimised")


def dense(params, x):
    return jax.nn.relu(x @ params["kernel"] + params["bias"][None])


def conv(params, x):
    return jax.lax.conv_general_dilated(
        x, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def roi_head(params, x):
    """A bottleneck with frozen batch normalization, pooling, and two dense heads."""
    y = x
    for kernel, scale, shift in params["block"]:
        y = jax.nn.relu(conv({"kernel": kernel}, y) * scale + shift)
    y = jax.nn.relu(x + y).mean((1, 2))
    return jax.nn.softmax(y @ params["classes"], -1), y @ params["boxes"]


def block(inputs, outputs, size):
    shape = (1, 1, 1, outputs)
    return array(size, size, inputs, outputs), array(*shape), array(*shape, seed=1)


FUNCTIONS = {
    "dense": (dense, {"kernel": array(16, 64), "bias": array(64)}, array(8, 10, 16)),
    "conv": (conv, {"kernel": array(3, 3, 3, 4)}, array(2, 5, 8, 8, 3)),
    "roi_head": (
        roi_head,
        {
            "block": (block(16, 4, 1), block(4, 4, 3), block(4, 16, 1)),
            "classes": array(16, 21),
            "boxes": array(16, 80),
        },
        array(1, 6, 7, 7, 16),
    ),
}


def by_vmap(fun):
    return jax.vmap(fun, (None, 1), 1)


def by_fold(fun):
    def folded(params, x):
        outputs = fun(params, x.reshape(-1, *x.shape[2:]))
        return jax.tree.map(lambda y: y.reshape(*x.shape[:2], *y.shape[1:]), outputs)

    return folded


def operations(fun, *args):
    """Count the operations of the optimized program."""
    text = jax.jit(fun).lower(*args).compile(AS_USERS_DO).as_text()
    return collections.Counter(re.findall(r"= \S+ ([a-z][a-z0-9-]*)\(", text))


def wrapped(fun, strategy):
    return tdjax.time_distributed(fun, in_axes=(None, 1), strategy=strategy)


@pytest.mark.parametrize("strategy, by_hand", [("vmap", by_vmap), ("fold", by_fold)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_compiled_program_is_the_one_written_by_hand(name, strategy, by_hand):
    fun, params, x = FUNCTIONS[name]
    ours = operations(wrapped(fun, strategy), params, x)
    theirs = operations(by_hand(fun), params, x)
    assert ours == theirs and sum(ours.values()) > 2


@pytest.mark.parametrize("strategy, by_hand", [("vmap", by_vmap), ("fold", by_fold)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_so_is_its_gradient(name, strategy, by_hand):
    fun, params, x = FUNCTIONS[name]

    def loss(fun):
        return jax.grad(lambda p, x: sum(jnp.sum(y**2) for y in jax.tree.leaves(fun(p, x))), (0, 1))

    assert operations(loss(wrapped(fun, strategy)), params, x) == operations(
        loss(by_hand(fun)), params, x
    )


@pytest.mark.usefixtures("on_two_cores")
def test_of_a_small_step_auto_compiles_to_what_jax_vmap_does():
    def product(kernel, x):
        return x @ kernel

    programs = (
        jax.jit(run).lower(array(16, 8), array(32, 10, 16)).compile(AS_USERS_DO).as_text()
        for run in (wrapped(product, "auto"), by_vmap(product))
    )
    ours, theirs = map(fingerprint, programs)
    assert ours == theirs


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("strategy", [Fold(chunk_size=10), Vmap(chunk_size=5)], ids=str)
def test_one_block_of_everything_has_convolutions_of_its_own(strategy):
    fun, params, x = FUNCTIONS["conv"]
    text = str(jax.make_jaxpr(wrapped(fun, strategy))(params, x))
    assert "tdjax_conv_general_dilated" in text and "scan" not in text
    assert_same(wrapped(fun, strategy)(params, x), wrapped(fun, "unroll")(params, x))


def test_a_fold_of_time_first_moves_nothing():
    fun = tdjax.time_distributed(dense, in_axes=(None, 0), out_axes=0, strategy="fold")
    assert "transpose" not in str(jax.make_jaxpr(fun)(FUNCTIONS["dense"][1], array(10, 8, 16)))


def test_auto_folds_what_is_independent_and_maps_what_is_not():
    x = array(3, 4, 5)
    auto = tdjax.time_distributed(jnp.sin, strategy="auto")
    fold = tdjax.time_distributed(jnp.sin, strategy="fold")
    assert str(jax.make_jaxpr(auto)(x)) == str(jax.make_jaxpr(fold)(x))

    def centered(x):
        return x - x.mean(0, keepdims=True)

    auto = tdjax.time_distributed(centered, strategy="auto")
    vmap = tdjax.time_distributed(centered, strategy="vmap")
    assert str(jax.make_jaxpr(auto)(x)) == str(jax.make_jaxpr(vmap)(x))


TRACES = {
    Vmap(): 1,
    Vmap(remat=True): 1,
    Vmap(chunk_size=1): 1,
    Vmap(chunk_size=1, unroll=True): 1,
    Vmap(chunk_size=2): 1,
    Vmap(chunk_size=3, unroll=2, remat=True): 1,
    Fold(): 2,
    Fold(chunk_size=4): 2,
    Fold(chunk_size=5, unroll=True): 2,
    Fold(chunk_size=7, remat=True): 2,
    Auto(): 2,
}


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("strategy", TRACES, ids=str)
def test_traces_do_not_grow_with_time_blocks_or_remainders(strategy, masked):
    counts = []
    for time in (2, 5, 6, 13):
        calls = []

        def step(x, calls=calls):
            calls.append(x.shape)
            return jnp.sin(x) * 2

        fun = tdjax.time_distributed(step, strategy=strategy)
        x = array(3, time, 2)
        mask = {"mask": jnp.ones((3, time), bool)} if masked else {}
        jax.make_jaxpr(lambda x, fun=fun, mask=mask: fun(x, **mask))(x)
        counts.append(len(calls))
    allowed = 2 if masked else TRACES[strategy]
    assert max(counts) <= allowed and min(counts) >= 1


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("strategy", TRACES, ids=str)
def test_a_repeated_call_compiles_nothing(strategy, masked, count_compilations):
    fun = tdjax.time_distributed(lambda x: jnp.tanh(x @ array(2, 2)), strategy=strategy)
    x, mask = array(3, 5, 2), jnp.ones((3, 5), bool)
    options = {"mask": mask} if masked else {}
    first = fun(x, **options)
    fun(x, **options)
    with count_compilations() as compiled:
        again = fun(x, **options)
    assert compiled == []
    assert_same(again, first)


@pytest.mark.parametrize("strategy", [Vmap(chunk_size=1), Fold(), Auto()], ids=str)
def test_a_new_function_with_the_same_program_compiles_nothing(strategy, count_compilations):
    x = array(3, 5, 2)

    def make():
        return tdjax.time_distributed(lambda x: jnp.tanh(x) + 1, strategy=strategy)

    make()(x)
    with count_compilations() as compiled:
        make()(x)
    assert compiled == []


@pytest.mark.parametrize("strategy", TRACES, ids=str)
def test_names_show_in_a_profile(strategy):
    fun = tdjax.time_distributed(jnp.sin, strategy=strategy)
    text = jax.jit(fun).lower(array(3, 5, 2)).compile(AS_USERS_DO).as_text()
    assert "tdjax." in text


def test_strategies_are_values():
    assert Vmap(chunk_size=2) == Vmap(chunk_size=2) != Vmap(chunk_size=3)
    assert len({Fold(), Fold(), Fold(chunk_size=3), Vmap(), Auto(), Auto()}) == 4
    with pytest.raises(AttributeError):
        Fold().chunk_size = 3


@pytest.mark.parametrize(
    "strategy, name",
    [
        (Vmap(), "vmap"),
        (Vmap(chunk_size=1), "map"),
        (Vmap(chunk_size=1, unroll=True), "unroll"),
        (Fold(), "fold"),
        (Auto(), "auto"),
        (Fold(chunk_size=32, unroll=True), "Fold(chunk_size=32, unroll=True)"),
        (Vmap(chunk_size=4, remat=True), "Vmap(chunk_size=4, remat=True)"),
    ],
)
def test_the_shortest_name(strategy, name):
    assert str(strategy) == name
    assert tdjax.strategies.parse(strategy) is strategy
    if "(" not in name:
        assert tdjax.strategies.parse(name) == strategy
