"""Keys, numbers and flags of a step inside loops and branches, together with rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from all_orders import assert_is_the_loop, doubles
from probing import refusal

import tdjax

B, T, D, LAYERS = 4, 3, 3, 2
X = doubles(B, T, D)
WEIGHTS = 0.5 * doubles(LAYERS, D, D, seed=1)
KEYS = jax.random.split(jax.random.key(0), T)
SCALES = np.abs(doubles(T, seed=2)) + 0.5
FLAGS = np.array([True, False, True])
AXES = (1, None, 0)


def dropped(key, x):
    return jnp.where(jax.random.bernoulli(key, 0.6, x.shape), x / 0.6, 0.0)


def splits_a_carried_key(x, weights, key):
    def layer(carry, weight):
        x, key = carry
        key, now = jax.random.split(key)
        return (jnp.tanh(dropped(now, x) @ weight) + x, key), x.sum(-1)

    (x, _), sums = jax.lax.scan(layer, (x, key), weights)
    return x, sums.T


def scans_keys_backward(x, weights, key):
    @jax.checkpoint
    def layer(x, given):
        weight, key = given
        return jnp.tanh(dropped(key, x) @ weight) + x, None

    keys = jax.random.split(key, LAYERS)
    return jax.lax.scan(layer, x, (weights, keys), reverse=True, unroll=2)[0]


def folds_in_the_layer(x, weights, key):
    def layer(x, given):
        weight, number = given
        return (dropped(jax.random.fold_in(key, number), x).T @ weight).T, x

    return jax.lax.scan(layer, x.T, (weights, jnp.arange(LAYERS)))[0].T


def scans_in_a_scan(x, weights, key):
    def layer(x, given):
        weight, key = given
        keys = jax.random.split(key, 2)
        return jax.lax.scan(lambda x, key: (dropped(key, x), None), x @ weight, keys)[0], None

    return jax.lax.scan(layer, x, (weights, jax.random.split(key, LAYERS)))[0]


def scans_a_schedule(x, weights, scale):
    def layer(carry, given):
        x, scale, total = carry
        weight, rate = given
        return (jnp.tanh(x * scale * rate @ weight), scale * 0.9, total + 1.0), scale

    rates = jnp.linspace(1.0, 2.0, LAYERS) * scale
    (x, scale, total), scales = jax.lax.scan(layer, (x, scale, jnp.zeros(())), (weights, rates))
    return x * total, scales


def draws_in_a_scan_alone(x, weights, key):
    def draw(key, _):
        return jax.random.split(key)[0], jax.random.normal(key, x.shape, x.dtype)

    return x + jax.lax.scan(draw, key, None, length=2)[1].sum(0) * weights[0, 0, 0]


SCANS = {
    "splits_a_carried_key": (splits_a_carried_key, KEYS),
    "scans_keys_backward": (scans_keys_backward, KEYS),
    "folds_in_the_layer": (folds_in_the_layer, KEYS),
    "scans_in_a_scan": (scans_in_a_scan, KEYS),
    "scans_a_schedule": (scans_a_schedule, SCALES),
    "draws_in_a_scan_alone": (draws_in_a_scan_alone, KEYS),
    "generator_that_draws_in_batches": (
        splits_a_carried_key,
        jax.random.split(jax.random.key(0, impl="rbg"), T),
    ),
}


@pytest.mark.parametrize("name", SCANS)
def test_a_scan_with_values_of_one_step_is_the_loop(name):
    fun, values = SCANS[name]
    strategies = ["fold", tdjax.Fold(chunk_size=5)]
    # A generator that draws in batches draws otherwise under `jax.vmap`, which the loop has not.
    if "batches" not in name:
        strategies.append("auto")
    if name != "scans_a_schedule":  # whose second output has no rows to be masked
        strategies.append(tdjax.Packed(chunk_size=5))
    order = 2 if name == "splits_a_carried_key" else 1
    assert_is_the_loop(fun, X, WEIGHTS, values, in_axes=AXES, strategies=strategies, order=order)


def test_blocks_of_one_row_and_blocks_written_out():
    strategies = [tdjax.Fold(chunk_size=1), tdjax.Fold(chunk_size=7, unroll=True, remat=True)]
    assert_is_the_loop(
        splits_a_carried_key, X, WEIGHTS, KEYS, in_axes=AXES, strategies=strategies, order=1
    )


def spread(x, scale, row):
    """On a batch of one row, spreading changes nothing, and is not in the trace."""
    rows = jnp.broadcast_to(row[None], x.shape)
    return x * scale + rows, rows


def spread_in_a_scan(x, scale, row):
    def turn(carry, _):
        return carry * scale + jnp.broadcast_to(row[None], x.shape), None

    return jax.lax.scan(turn, x, None, length=2)[0]


@pytest.mark.parametrize("fun", [spread, spread_in_a_scan])
def test_blocks_of_one_row_of_batches_of_one(fun):
    args = X[:1], doubles(X.shape[1]), X[0, 0]
    strategies = [tdjax.Fold(chunk_size=1), tdjax.Packed(chunk_size=1), "fold", "auto"]
    assert_is_the_loop(fun, *args, in_axes=(1, 0, None), strategies=strategies, order=1)


def drops_or_multiplies(x, weights, key, flag):
    return jax.lax.cond(flag, lambda x: dropped(key, x), lambda x: x @ weights[0], x)


def keys_of_rows(x, weights, key, flag):
    def own(key, x):
        keys = jax.random.split(key, x.shape[0])
        return x + jax.vmap(lambda key: jax.random.normal(key, (D,), x.dtype))(keys)

    return jax.lax.cond(flag, own, lambda key, x: x * weights[0, 0, 0], key, x)


def branches_in_a_scan(x, weights, key, flag):
    def layer(x, given):
        weight, key = given
        x = jax.lax.cond(flag, lambda x: dropped(key, x), lambda x: x * 2, x)
        return jnp.tanh(x @ weight), None

    return jax.lax.scan(layer, x, (weights, jax.random.split(key, LAYERS)))[0]


@pytest.mark.parametrize("fun", [drops_or_multiplies, keys_of_rows, branches_in_a_scan])
def test_branches_that_all_steps_take_and_that_each_step_takes_are_the_loop(fun):
    shared, own = (1, None, 0, None), (1, None, 0, 0)
    assert_is_the_loop(fun, X, WEIGHTS, KEYS, np.array(True), in_axes=shared, order=1)
    assert_is_the_loop(fun, X, WEIGHTS, KEYS, np.array(False), in_axes=shared, order=0)
    order = 2 if fun is drops_or_multiplies else 1
    assert_is_the_loop(fun, X, WEIGHTS, KEYS, FLAGS, in_axes=own, order=order)


def test_one_of_three_branches():
    def step(x, weights, scale, which):
        branches = [
            lambda x: (x.T, scale),
            lambda x: ((x @ weights[0]).T * jnp.log(scale), jnp.zeros_like(scale)),
            lambda x: (jnp.exp(x).T, scale * 2),
        ]
        return jax.lax.switch(which, branches, x)

    whole = ["fold", tdjax.Fold(chunk_size=5), "auto"]
    for which, axis in ((np.int32(1), None), (np.array([2, 0, 1], np.int32), 0)):
        axes = (1, None, 0, axis)
        assert_is_the_loop(step, X, WEIGHTS, SCALES, which, in_axes=axes, strategies=whole)


@pytest.mark.parametrize("threshold", [0.0, 5.0], ids=["for_some_steps", "for_all_steps"])
def test_a_branch_that_is_singular_for_steps_that_do_not_take_it(threshold):
    def step(x, weights, scale):
        def divided(x):
            return jnp.sqrt(scale - threshold) * x @ weights[0] / scale

        return jax.lax.cond(scale > threshold, divided, lambda x: x @ weights[1] * scale, x)

    assert_is_the_loop(step, X, WEIGHTS, np.array([0.5, 0.0, 2.0]), in_axes=AXES)


def test_a_singular_branch_on_values_of_one_step_alone():
    def step(x, weights, scale):
        chosen = jax.lax.cond(scale > 0, lambda: jnp.log(scale), lambda: scale * 2)
        return x * chosen + weights[0, 0, 0]

    assert_is_the_loop(step, X, WEIGHTS, np.array([0.5, 0.0, 2.0]), in_axes=AXES)


def test_numbers_of_one_step_in_a_loop_that_rows_or_numbers_end():
    def counted(x, weights, scale):
        def turn(carry):
            return carry[0] + 1, jnp.tanh(carry[1] * jnp.sqrt(scale) @ weights[0])

        return jax.lax.while_loop(lambda carry: carry[0] < 3, turn, (0, x))[1]

    def each_row(x, weights, scale):
        def one(row):
            return jax.lax.while_loop(
                lambda value: jnp.abs(value).max() > 0.1 * scale,
                lambda value: value * 0.5 / (1 + scale),
                row + weights[0, 0],
            )

        return jax.vmap(one)(x)

    for step in (counted, each_row):
        assert_is_the_loop(step, X, WEIGHTS, SCALES, in_axes=AXES, reverse=False)


def carries_a_key(x, key):
    def turn(carry):
        count, x, key = carry
        return count + 1, dropped(key, x), jax.random.split(key)[0]

    return jax.lax.while_loop(lambda carry: carry[0] < 3, turn, (0, x, key))[1]


def folds_in_the_turn(x, key):
    def turn(carry):
        return carry[0] + 1, dropped(jax.random.fold_in(key, carry[0]), carry[1])

    return jax.lax.while_loop(lambda carry: carry[0] < 3, turn, (0, x))[1]


def as_often_as_a_step_says(x, key):
    count = jax.random.randint(key, (), 0, 5)
    return jax.lax.fori_loop(0, count, lambda _, x: x * 1.5, x)


WHAT_TO_WRITE = {
    carries_a_key: "jax.lax.scan",
    folds_in_the_turn: "`random_bits` of a step's value.*jax.lax.scan",
    as_often_as_a_step_says: "`jax.vmap` of the loop, inside the step",
}


@pytest.mark.parametrize("fun", WHAT_TO_WRITE, ids=lambda fun: fun.__name__)
def test_loops_that_draw_or_end_by_step_are_refused_with_what_to_write_instead(fun):
    x = jnp.asarray(X, jnp.float32)
    with pytest.raises(tdjax.StrategyError, match=WHAT_TO_WRITE[fun]):
        tdjax.time_distributed(fun, in_axes=(1, 0), strategy="fold")(x, KEYS)
    assert "test_step_values.py" in refusal(fun, x, KEYS, in_axes=(1, 0))


def test_a_call_that_gives_values_of_one_step_and_shared_ones():
    @jax.jit
    def inner(scale, weight):
        return scale * 2, weight[:1] * 2

    def step(x, weights, scale):
        scale, weight = inner(scale, weights[0])
        return x * scale + weight

    assert_is_the_loop(step, X, WEIGHTS, SCALES, in_axes=AXES, order=1)


def counts_beside_rows(x, weights, key):
    count, y = jax.lax.fori_loop(0, 3, lambda _, c: (c[0] + 1.0, c[1] * 2.0), (0.0, x))
    return y + jax.random.normal(key, (), x.dtype) * count + weights.sum()


def halves_beside_rows(x, weights, scale):
    (factor, y), factors = jax.lax.scan(
        lambda c, _: ((c[0] / 2, c[1] + c[0]), c[0]), (1.0, x), None, length=3
    )
    return y * scale + factors.sum() + factor * weights.sum()


@pytest.mark.parametrize(
    "step, given", [(counts_beside_rows, KEYS), (halves_beside_rows, SCALES)], ids=["key", "scale"]
)
def test_what_a_loop_over_rows_counts_may_meet_values_of_a_step(step, given):
    assert_is_the_loop(step, X, WEIGHTS, given, in_axes=AXES, order=1)
