"""Masked steps: nothing in the padding reaches an output or a gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array
from oracle import assert_same, loop

import tdjax
from tdjax import Auto, Fold, Packed, Vmap

BATCH, TIME, FEATURES = 3, 5, 2

STRATEGIES = [
    Vmap(),
    Vmap(chunk_size=1),
    Vmap(chunk_size=2, unroll=True, remat=True),
    Fold(),
    Fold(chunk_size=4, remat=True),
    Auto(),
]
every_strategy_that_keeps = pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
PACKED = Packed(chunk_size=4)
every_strategy = pytest.mark.parametrize("strategy", [*STRATEGIES, PACKED], ids=str)

LENGTHS = jnp.array([5, 2, 0])
MASKS = {
    "none": jnp.zeros((BATCH, TIME), bool),
    "all": jnp.ones((BATCH, TIME), bool),
    "lengths": jnp.arange(TIME)[None] < LENGTHS[:, None],
    "first_is_masked": jnp.array([[0, 1, 0, 1, 1], [0, 0, 0, 0, 1], [0, 1, 1, 1, 0]], bool),
}


def normalize(weight, x):
    return (x / jnp.linalg.norm(x, axis=-1, keepdims=True)) @ weight


def logarithm(weight, x):
    return jnp.log(jnp.abs(x) @ jnp.abs(weight))


def square_root(weight, x):
    return jnp.sqrt(jnp.sum(x * x, -1)) * weight.sum(), {"inverse": 1 / x.sum(-1, keepdims=True)}


def layers(weight, x):
    return jax.nn.softmax(jnp.tanh(x @ weight), -1)


STEPS = [normalize, logarithm, square_root, layers]
PADDING = {"nan": jnp.nan, "inf": jnp.inf, "zero": 0.0}


def padded(mask, value):
    return jnp.where(mask[..., None], array(BATCH, TIME, FEATURES), value)


def total(fun, weight, x):
    return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(fun(weight, x)))


def output_and_gradients(fun, weight, x):
    """Return the output of `fun` and the gradients of its total, from one program."""

    @jax.jit
    def both(weight, x):
        return fun(weight, x), jax.grad(functools.partial(total, fun), (0, 1))(weight, x)

    return both(weight, x)


def reference(step, mask, weight, x):
    """Return the loop over real rows alone, laid out in steps: no padding is ever computed."""
    rows, times = np.nonzero(np.asarray(mask))
    real = step(weight, x[rows, times]) if len(rows) else step(weight, jnp.ones((0, FEATURES)))
    return jax.tree.map(
        lambda y: jnp.zeros((BATCH, TIME, *y.shape[1:]), y.dtype).at[rows, times].set(y), real
    )


@functools.cache
def over_real_rows(step, name):
    """Return values and gradients of `reference`."""
    mask = MASKS[name]
    plain = functools.partial(reference, step, mask)
    return output_and_gradients(plain, array(FEATURES, FEATURES), padded(mask, 1.0))


@functools.cache
def over_all_rows(step):
    """Return values and gradients under every strategy, of every mask and padding: one program."""

    @jax.jit
    def run(weight, x, mask):
        found = {}
        for strategy in (*STRATEGIES, PACKED):
            fun = tdjax.time_distributed(step, in_axes=(None, 1), strategy=strategy)
            masked = functools.partial(fun, mask=mask)
            gradients = jax.grad(functools.partial(total, masked), (0, 1))(weight, x)
            found[str(strategy)] = masked(weight, x), gradients
        return found

    weight = array(FEATURES, FEATURES)
    return {
        (name, padding): run(weight, padded(mask, value), mask)
        for name, mask in MASKS.items()
        for padding, value in PADDING.items()
    }


@every_strategy
@pytest.mark.parametrize("step", STEPS)
def test_padding_reaches_nothing(step, strategy):
    for name, mask in MASKS.items():
        expected, gradients = over_real_rows(step, name)
        for padding in PADDING:
            output, gradient = over_all_rows(step)[name, padding][str(strategy)]
            assert_same(output, expected)
            assert_same(gradient, gradients, scale=20)
            for array_of_steps in (gradient[1], *jax.tree.leaves(output)):
                assert np.all(np.asarray(array_of_steps)[~np.asarray(mask)] == 0)


@every_strategy
def test_padding_reaches_no_closed_over_weight(strategy):
    mask = MASKS["lengths"]

    def run(weight, x):
        fun = tdjax.time_distributed(functools.partial(normalize, weight), strategy=strategy)
        return fun(x, mask=mask)

    weight = array(FEATURES, FEATURES)
    _, (ours, _) = output_and_gradients(run, weight, padded(mask, jnp.nan))
    _, (theirs, _) = over_real_rows(normalize, "lengths")
    assert_same(ours, theirs, scale=20)


@every_strategy
def test_lengths_say_the_same_as_their_mask(strategy):
    fun = tdjax.time_distributed(layers, in_axes=(None, 1), strategy=strategy)
    weight, x = array(FEATURES, 3), array(BATCH, TIME, FEATURES)
    by_mask = fun(weight, x, mask=MASKS["lengths"])
    assert_same(fun(weight, x, seq_lengths=LENGTHS), by_mask)
    assert_same(jax.jit(fun)(weight, x, seq_lengths=LENGTHS), by_mask)
    assert_same(fun(weight, x, seq_lengths=np.array(LENGTHS, np.uint8)), by_mask)


def test_lengths_and_masks_turn_into_each_other_on_the_host_and_in_a_trace():
    lengths = np.array([5, 2, 0])
    mask = tdjax.lengths_to_mask(lengths)
    assert isinstance(mask, np.ndarray) and np.array_equal(mask, MASKS["lengths"])
    assert tdjax.lengths_to_mask([1], 4).shape == (1, 4)
    assert tdjax.lengths_to_mask(np.zeros(0, int)).shape == (0, 0)
    back = tdjax.mask_to_lengths(mask)
    assert isinstance(back, np.ndarray) and np.array_equal(back, lengths)
    traced = jax.jit(lambda n: tdjax.lengths_to_mask(n, TIME))(lengths)
    assert np.array_equal(jax.jit(tdjax.mask_to_lengths)(traced), lengths)


def test_lengths_in_a_trace_count_as_the_time_size_at_most():
    fun = jax.jit(tdjax.time_distributed(jnp.cos))
    output = fun(jnp.zeros((2, 3)), seq_lengths=jnp.array([9, 1]))
    assert_same(output, jnp.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]))


@every_strategy
def test_a_mask_with_more_axes_keeps_a_step_with_any_real_entry(strategy):
    mask = jnp.zeros((BATCH, TIME, 2, 3), bool).at[0, 1, 1, 2].set(True).at[2, 4].set(True)
    x = array(BATCH, TIME, FEATURES)
    output = tdjax.time_distributed(jnp.tanh, strategy=strategy)(x, mask=mask)
    assert_same(output, loop(jnp.tanh, (x,), mask=mask))
    assert np.count_nonzero(output) == 2 * FEATURES


@every_strategy
@pytest.mark.parametrize("shape", [(BATCH, TIME), (BATCH, TIME, FEATURES)], ids=["plain", "more"])
def test_a_parameter_called_mask_gets_its_slice(strategy, shape):
    mask = jnp.asarray(np.random.default_rng(0).random(shape) > 0.4)

    def step(x, mask=None):
        kept = mask if mask.ndim == 2 else mask[:, None]
        return jnp.where(kept, x, -1.0)

    x = array(BATCH, TIME, FEATURES)
    output = tdjax.time_distributed(step, strategy=strategy)(x, mask=mask)
    by_hand = jnp.where(mask if mask.ndim == 3 else mask[..., None], x, -1.0)
    real = mask.reshape(BATCH, TIME, -1).any(-1)[..., None]
    assert_same(output, jnp.where(real, by_hand, 0.0))
    if isinstance(strategy, Packed):
        return
    kept = tdjax.time_distributed(step, strategy=strategy, masked_output="keep")(x, mask=mask)
    assert_same(kept, by_hand)


@jax.jit  # one program for all strategies
def every_step(weight, x):
    return loop(normalize, (weight, x), (None, 1))


@every_strategy_that_keeps
def test_kept_outputs_and_gradients_are_what_was_computed(strategy):
    mask, weight = MASKS["lengths"], array(FEATURES, 3)
    x = array(BATCH, TIME, FEATURES)
    fun = tdjax.time_distributed(
        normalize, in_axes=(None, 1), strategy=strategy, masked_output="keep"
    )
    output, gradients = output_and_gradients(functools.partial(fun, mask=mask), weight, x)
    expected, expected_gradients = output_and_gradients(every_step, weight, x)
    assert_same(output, expected)
    assert_same(gradients, expected_gradients, scale=20)


@pytest.mark.parametrize(
    "strategy", [Vmap(), Vmap(chunk_size=2), Vmap(chunk_size=1, unroll=True), Auto()], ids=str
)
def test_a_step_that_mixes_rows_sees_the_padding_as_it_is(strategy):
    def step(x):
        return x - x.mean(0, keepdims=True)

    mask, x = MASKS["first_is_masked"], array(BATCH, TIME, FEATURES)
    output = tdjax.time_distributed(step, strategy=strategy)(x, mask=mask)
    assert_same(output, loop(step, (x,), mask=mask))


@every_strategy
@pytest.mark.parametrize("time_axis", [0, 1, 2])
def test_rows_away_from_the_front_are_zeroed_where_they_are(strategy, time_axis):
    mask = MASKS["first_is_masked"]
    x = jnp.moveaxis(array(BATCH, TIME, FEATURES), 1, time_axis)

    def step(x):
        return x.T, jnp.repeat(x, 2, 1).reshape(-1, 2)

    options = {"in_axes": time_axis, "out_axes": (time_axis, 0)}
    output = tdjax.time_distributed(step, strategy=strategy, **options)(x, mask=mask)
    plain = loop(step, (x,), **options)
    real = jnp.moveaxis(mask.T[:, None, :], 0, time_axis)
    assert_same(output[0], jnp.where(real, plain[0], 0.0))
    assert_same(output[1], jnp.where(jnp.repeat(mask.T, FEATURES, 1)[..., None], plain[1], 0.0))


@every_strategy
def test_ints_bools_and_keys_are_masked_too(strategy):
    mask = MASKS["lengths"]
    keys = jax.random.split(jax.random.key(0), (BATCH, TIME))
    x = jnp.arange(1, 1 + BATCH * TIME).reshape(BATCH, TIME)

    def step(x, keys):
        return x * 2, x > 0, jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)

    output = tdjax.time_distributed(step, strategy=strategy)(x, keys, mask=mask)
    assert_same(output, loop(step, (x, keys), mask=mask))


@every_strategy
def test_a_batch_of_nothing_has_a_mask_too(strategy):
    fun = tdjax.time_distributed(jnp.sin, strategy=strategy)
    assert fun(jnp.ones((0, TIME, 2)), mask=jnp.ones((0, TIME), bool)).shape == (0, TIME, 2)


@every_strategy
def test_values_of_one_step_may_be_padding(strategy):
    mask = MASKS["lengths"].at[:, 3].set(False)
    x = padded(mask, jnp.nan)
    scale = jnp.where(mask.any(0), array(TIME), jnp.nan)
    fun = tdjax.time_distributed(
        lambda x, scale: jnp.tanh(x * scale), in_axes=(1, 0), strategy=strategy
    )

    def loss(x, scale):
        output = fun(x, scale, mask=mask)
        return output.sum(), output

    gradients, output = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, scale)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert gradients[1][3] == 0
    clean = jnp.nan_to_num(scale)
    assert_same(output, jnp.where(mask[..., None], jnp.tanh(x * clean[None, :, None]), 0.0))


@every_strategy
def test_second_derivatives_stay_finite(strategy):
    mask = MASKS["lengths"]
    fun = tdjax.time_distributed(normalize, in_axes=(None, 1), strategy=strategy)

    def loss(weight, x):
        return jnp.sin(fun(weight, x, mask=mask)).sum()

    def slope(weight, x):
        return (jax.grad(loss)(weight, x) ** 2).sum()

    ours = jax.jit(jax.grad(slope, (0, 1)))(array(FEATURES, 3), padded(mask, jnp.nan))
    assert all(np.isfinite(gradient).all() for gradient in ours)
    assert np.all(np.asarray(ours[1])[~np.asarray(mask)] == 0)
