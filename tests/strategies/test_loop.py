"""Every strategy against the plain loop, values and gradients, over the table of step functions."""

import functools

import jax
import jax.numpy as jnp
import pytest
from cases import BATCH, CASES, TIME
from oracle import assert_same, is_array, loop, steps_of, take_step, value_and_vjp

import tdjax
from tdjax import Auto, Fold, Packed, StrategyError, Vmap
from tdjax.strategies import recorded

STRATEGIES = {
    str(strategy): strategy
    for strategy in (
        Vmap(),
        Vmap(chunk_size=1),
        Vmap(chunk_size=1, unroll=True),
        Vmap(chunk_size=2, remat=True),
        Fold(),
        Fold(chunk_size=5, remat=True),
        Packed(chunk_size=5),
    )
}
MORE = {
    str(strategy): strategy
    for strategy in (
        Vmap(remat=True),
        Vmap(chunk_size=3, unroll=True),
        Vmap(chunk_size=2, unroll=2),
        Fold(remat=True),
        Fold(chunk_size=1),
        Fold(chunk_size=3, unroll=2),
        Fold(chunk_size=7, unroll=True),
        Auto(),
        Fold(chunk_size=100, unroll=True, remat=True),
    )
}
TABLES = {"main": STRATEGIES, "more": MORE}
REPRESENTATIVE = (
    "dense",
    "pytrees",
    "several_inputs_and_outputs",
    "patches_merged_with_batch",
    "recurrent_net_inside",
    "values_of_one_step",
    "keys_a_step",
    "embedding",
    "integers_and_bools",
    "custom_vjp",
    "transposed",
    "centred",
)


@functools.cache
def results(name, table):
    """Return value and vjp of the loop, and those under each strategy that can compute a case.

    All of them are one program, which compiles sooner than many.
    """
    case = CASES[name]
    functions = {"loop": functools.partial(in_a_loop, case)}
    for strategy in TABLES[table].values():
        if case.folds or not isinstance(strategy, (Fold, Packed)):
            functions[str(strategy)] = wrapped(case, strategy)
    leaves, tree = jax.tree.flatten((case.weights, case.args))
    arrays = [leaf for leaf in leaves if is_array(leaf)]

    @jax.jit
    def run(arrays):
        arrays = iter(arrays)
        merged = [next(arrays) if is_array(leaf) else leaf for leaf in leaves]
        operands = jax.tree.unflatten(tree, merged)
        return {way: value_and_vjp(fun, operands) for way, fun in functions.items()}

    return run(arrays)


def in_a_loop(case, weights, args):
    return loop(case.build(*weights), args, **case.options(), kwargs=case.kwargs)


def wrapped(case, strategy):
    def run(weights, args):
        fun = tdjax.time_distributed(case.build(*weights), strategy=strategy, **case.options())
        return fun(*args, **case.kwargs, **nothing_masked(case, args, strategy))

    return run


def nothing_masked(case, args, strategy):
    """Return the mask that a strategy needs that packs."""
    if not isinstance(strategy, Packed):
        return {}
    return {"mask": jnp.ones((BATCH, steps_of(args, case.in_axes)[0]), bool)}


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_equal_the_loop(name, strategy):
    check(name, strategy, "main")


@pytest.mark.parametrize("strategy", MORE.values(), ids=MORE)
@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_further_options_equal_the_loop(name, strategy):
    check(name, strategy, "more")


def check(name, strategy, table):
    case = CASES[name]
    if isinstance(strategy, (Fold, Packed)) and not case.folds:
        with pytest.raises(StrategyError, match=r"cannot be (folded|packed): its rows are not"):
            wrapped(case, strategy)(case.weights, case.args)
        return
    found = results(name, table)
    value, gradient = found[str(strategy)]
    assert_same(value, found["loop"][0])
    assert_same(gradient, found["loop"][1], scale=20)


@pytest.mark.parametrize("name", CASES)
def test_auto_folds_what_is_proven_and_keeps_the_meaning_of_the_rest(name):
    case = CASES[name]
    if not case.folds:
        expected = results(name, "main")["loop"][0]
        assert_same(wrapped(case, "auto")(case.weights, case.args), expected)
        return

    def program(strategy):
        return str(jax.make_jaxpr(lambda: wrapped(case, strategy)(case.weights, case.args))())

    with recorded() as decisions:
        automatic = program("auto")
    strategy = decisions[0].strategy
    assert isinstance(strategy, Fold) and automatic == program(strategy)


def with_time(case, time):
    """Return a case's arguments with another number of steps."""

    def cut(axis, subtree):
        def one(leaf):
            if axis is None or not is_array(leaf):
                return leaf
            return leaf[(slice(None),) * (axis % leaf.ndim) + (slice(0, time),)]

        return jax.tree.map(one, subtree)

    axes = case.in_axes if isinstance(case.in_axes, tuple) else (case.in_axes,) * len(case.args)
    return jax.tree.map(cut, axes, case.args, is_leaf=lambda leaf: leaf is None)


@pytest.mark.parametrize("name", CASES)
def test_no_steps_give_empty_outputs(name):
    case = CASES[name]
    one = jax.eval_shape(
        lambda weights: case.build(*weights)(*take_step(case.args, case.in_axes, 0), **case.kwargs),
        case.weights,
    )
    output = wrapped(case, "auto")(case.weights, with_time(case, 0))
    assert jax.tree.structure(output) == jax.tree.structure(one)
    for empty, step in zip(jax.tree.leaves(output), jax.tree.leaves(one), strict=True):
        assert empty.dtype == step.dtype
        assert empty.size == 0 or empty.shape == step.shape
    full = jax.eval_shape(lambda: wrapped(case, "vmap")(case.weights, case.args))
    for empty, stacked in zip(jax.tree.leaves(output), jax.tree.leaves(full), strict=True):
        sizes = [
            size for size, other in zip(empty.shape, stacked.shape, strict=True) if size != other
        ]
        assert sizes in ([0], []), (empty.shape, stacked.shape)


SOME = ("pytrees", "values_of_one_step", "scalar_a_step", "centred", "keys_a_row", "transposed")


@pytest.mark.parametrize("time", [0, 1])
@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
@pytest.mark.parametrize("name", SOME)
def test_few_steps_without_jit(name, strategy, time):
    case = CASES[name]
    if isinstance(strategy, (Fold, Packed)) and not case.folds:
        return
    args = with_time(case, time)
    assert set(steps_of(args, case.in_axes)) == {time}
    output = wrapped(case, strategy)(case.weights, args)
    if time:
        reference = loop(case.build(*case.weights), args, **case.options(), kwargs=case.kwargs)
        assert_same(output, reference)
    else:
        shape = jax.eval_shape(lambda: wrapped(case, "vmap")(case.weights, case.args))
        for empty, full in zip(jax.tree.leaves(output), jax.tree.leaves(shape), strict=True):
            assert empty.size == 0 and empty.ndim == full.ndim and empty.dtype == full.dtype


@pytest.mark.parametrize(
    "strategy", ["vmap", "map", "unroll", "fold", Fold(chunk_size=3), "auto"], ids=str
)
@pytest.mark.parametrize("shape", [(0, TIME, 3), (1, TIME, 3), (2, TIME, 0), (1, 1, 1)], ids=str)
def test_empty_and_single_rows(strategy, shape):
    def step(x):
        merged = jnp.sin(x).reshape(x.shape[0] * x.shape[1])
        return merged.reshape(x.shape), x.sum(-1)

    x = jnp.arange(float(shape[0] * shape[1] * shape[2])).reshape(shape)
    try:
        output = tdjax.time_distributed(step, strategy=strategy)(x)
    except StrategyError:
        assert shape[2] == 0 and strategy != "auto"
        return
    assert_same(output, (jnp.sin(x), x.sum(-1)))


@pytest.mark.parametrize("strategy", ["vmap", "map", "unroll", Vmap(chunk_size=2), "auto"], ids=str)
def test_nothing_mapped_repeats_the_step(strategy):
    fun = tdjax.time_distributed(lambda x: x * 2, in_axes=None, axis_size=3, strategy=strategy)
    assert_same(fun(jnp.ones((2, 4))), jnp.full((2, 3, 4), 2.0))


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_remainders_leave_gradients_finite_where_the_loop_has_them(strategy):
    x = jnp.zeros((2, 5, 3)).at[:, 1:].set(1.0)

    masked = {"mask": jnp.ones((2, 5), bool)} if isinstance(strategy, Packed) else {}

    def step(x):
        return jnp.where(x > 0, jnp.sqrt(x), 0.0)

    @jax.jit
    def gradients(x):
        fun = tdjax.time_distributed(step, strategy=strategy)
        ours = jax.grad(lambda x: fun(x, **masked)[:, 1:].sum())(x)
        return ours, jax.grad(lambda x: loop(step, (x,))[:, 1:].sum())(x)

    ours, theirs = gradients(x)
    assert jnp.array_equal(jnp.isfinite(ours), jnp.isfinite(theirs))


def test_a_shared_output_that_a_fold_would_repeat():
    def step(shared, x):
        return shared * 2, x * shared

    options = {"in_axes": (None, 1), "out_axes": (None, 1)}
    args = jnp.arange(6.0), jnp.ones((6, 5))  # shared has as many entries as the batch
    assert_same(tdjax.time_distributed(step, **options)(*args), loop(step, args, **options))
    with pytest.raises(StrategyError, match="out_axes"):
        tdjax.time_distributed(step, strategy="fold", **options)(*args)
