"""Kinds of step functions that were proven once, and then gave other answers than the loop.

Of each kind there are several members. Under every strategy a member gives the values and the
gradients of the loop, or is refused; `REFUSED` says of which kinds a fold must refuse all.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array
from jax.custom_derivatives import linear_call
from jax.experimental.ode import odeint
from oracle import assert_same, loop, value_and_vjp
from probing import refusal

import tdjax

BATCH, TIME, FEATURES = 3, 3, 3  # sizes that coincide, and a last block that is not full
X = array(BATCH, TIME, FEATURES)
KEY = jax.random.key(0)
STEP_KEYS = jax.random.split(jax.random.key(1), TIME)
ROW_KEYS = jax.random.split(jax.random.key(2), (BATCH, TIME))
FOLDS = ["fold", tdjax.Fold(chunk_size=2), tdjax.Packed(chunk_size=2)]
OTHERS = ["auto", "map", tdjax.Vmap(chunk_size=2)]
MASK = np.array([[True, True, True], [True, True, False], [True, False, False]])


def masked(strategy):
    return MASK if isinstance(strategy, tdjax.Packed) else None


def over_time(fun, strategy, in_axes):
    """Return the step over time, with a mask where the strategy needs one."""
    wrapped = tdjax.time_distributed(fun, in_axes=in_axes, out_axes=0, strategy=strategy)
    mask = masked(strategy)
    return wrapped if mask is None else functools.partial(wrapped, mask=mask)


def assert_kept(fun, args, in_axes, *strategies):
    """Assert that strategies give the loop's values and gradients: all of it is one program."""

    @jax.jit
    def run(args):
        expected = {
            mask is None: value_and_vjp(
                lambda *args, mask=mask: loop(fun, args, in_axes, 0, mask=mask), args
            )
            for mask in map(masked, strategies)
        }
        return expected, [value_and_vjp(over_time(fun, each, in_axes), args) for each in strategies]

    with jax.numpy_rank_promotion("allow"):
        expected, ours = run(args)
    for strategy, actual in zip(strategies, ours, strict=True):
        assert_same(actual, expected[masked(strategy) is None], scale=40)


def assert_refused(fun, args, in_axes):
    """Assert that no fold takes a function, and that all other strategies give the loop."""
    for strategy in FOLDS:
        with pytest.raises(tdjax.StrategyError, match="not proven"):
            jax.eval_shape(lambda: over_time(fun, strategy, in_axes)(*args))  # noqa: B023
    assert_kept(fun, args, in_axes, *OTHERS)


def assert_proven(fun, args, in_axes):
    """Assert that all strategies give the loop."""
    assert_kept(fun, args, in_axes, *FOLDS, *OTHERS)


def rule(fun, backward, forward=None):
    """Return a function with a rule for reverse mode that is given inputs and cotangents."""
    ruled = jax.custom_vjp(fun)
    ruled.defvjp(forward or (lambda *args: (fun(*args), args)), backward)
    return ruled


# --- noise that depends on how much is drawn --------------------------------------------------


def gamma(key, x):
    return x + jax.random.gamma(key, jnp.abs(x) + 0.5)


def beta(key, x):
    return x + jax.random.beta(key, jnp.abs(x) + 0.5, jnp.abs(x) + 0.5)


def dirichlet(key, x):
    return x + jax.random.dirichlet(key, jnp.abs(x) + 0.5)


def loggamma(key, x):
    return x + jax.random.loggamma(key, jnp.abs(x) + 0.5)


def student(key, x):
    return x + jax.random.t(key, jnp.abs(x) + 1.0)


def chisquare(key, x):
    return x + jax.random.chisquare(key, jnp.abs(x) + 0.5)


def wald(key, x):
    return x + jax.random.wald(key, jnp.abs(x) + 0.5)


def split_by_row(key, x):
    return x + jax.vmap(lambda k: jax.random.gamma(k, 1.5, (FEATURES,)))(
        jax.random.split(key, x.shape[0])
    )


DRAWS = [gamma, beta, dirichlet, loggamma, student, chisquare, wald, split_by_row]


@pytest.mark.parametrize("draw", DRAWS)
def test_noise_from_one_key_for_all_steps_is_refused(draw):
    assert refusal(draw, KEY, X, in_axes=(None, 1)) is not None
    assert refusal(lambda x: draw(KEY, x), X) is not None


@pytest.mark.parametrize("draw", DRAWS)
def test_noise_from_a_key_a_step_is_the_loops_or_refused(draw):
    if refusal(draw, STEP_KEYS, X, in_axes=(0, 1)) is None:
        assert_kept(draw, (STEP_KEYS, X), (0, 1), "fold", tdjax.Fold(chunk_size=2))


@pytest.mark.parametrize("draw", [gamma, beta, loggamma, student])
def test_noise_from_a_key_a_row_is_the_loops(draw):
    def step(keys, x):
        return jax.vmap(draw)(keys, x)

    assert refusal(step, ROW_KEYS, X) is None
    assert_kept(step, (ROW_KEYS, X), 1, "fold", tdjax.Fold(chunk_size=2))


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
@pytest.mark.parametrize(
    "draw",
    [
        lambda key: jax.random.normal(key),
        lambda key: jax.random.normal(jax.random.split(key)[1]),
        lambda key: jax.random.normal(jax.random.fold_in(key, 3)),
        lambda key: jax.jit(lambda k: jax.random.uniform(jax.random.split(k, 3)[2]))(key),
    ],
    ids=["normal", "split", "fold_in", "inside_jit"],
)
def test_a_key_a_step_draws_what_it_draws_alone_whatever_its_generator(draw, impl):
    keys = jax.random.split(jax.random.key(1, impl=impl), TIME)
    assert_kept(lambda key, x: x + draw(key), (keys, X), (0, 1), *FOLDS, "map")


@pytest.mark.parametrize("make", [jax.random.split, lambda key: jax.random.fold_in(key, 3)])
def test_keys_of_rows_whose_generator_looks_at_the_batch_make_no_keys(make):
    keys = jax.random.split(jax.random.key(2, impl="unsafe_rbg"), (BATCH, TIME))

    def step(keys, x):
        return x, jax.vmap(lambda key: jax.random.key_data(make(key)))(keys)

    assert "unsafe" in refusal(step, keys, X) or "urbg" in refusal(step, keys, X)


# --- a number in a parameter that follows the batch -------------------------------------------

IMAGE = array(BATCH, TIME, 7, 3)
KERNEL = array(3, 3, 2)


def convolution(**options):
    def step(x):
        given = {name: value(x.shape[0]) for name, value in options.items()}
        arguments = {"window_strides": (1,), "padding": "VALID"} | given
        numbers = ("NWC", "WIO", "NWC")
        kernel = KERNEL[:, : 3 // arguments.get("feature_group_count", 1)]
        if "feature_group_count" in arguments:
            kernel = jnp.concatenate([kernel[:, :1]] * 3, 2)
        if "lhs_dilation" in arguments:
            arguments = {**arguments, "padding": ((1, 1),)}
        return jax.lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, **arguments)

    return step


def window(x, *sizes):
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, *sizes)


FOLLOWING = {
    "power": lambda x: x ** x.shape[0],
    "power_of_jax": lambda x: jax.lax.integer_pow(x, x.shape[0]),
    "twice_the_batch": lambda x: x ** (2 * x.shape[0]),
    "padding": lambda x: jnp.pad(x, ((0, 0), (x.shape[0], 0), (0, 0))),
    "padding_inside": lambda x: jax.lax.pad(x, 0.0, ((0, 0, 0), (0, 0, x.shape[0]), (0, 0, 0))),
    "stride": lambda x: x[:, :: x.shape[0]],
    "stride_and_start": lambda x: x[:, x.shape[0] :: 100],
    "limit": lambda x: x[:, : x.shape[0]],
    "start": lambda x: x[:, x.shape[0] :],
    "piece": lambda x: jax.lax.dynamic_slice_in_dim(x, jnp.int32(0), x.shape[0], 1),
    "precision": lambda x: jax.lax.reduce_precision(x, 8, x.shape[0]),
    "exponent": lambda x: jax.lax.reduce_precision(x, x.shape[0], 7),
    "repeat": lambda x: jnp.repeat(x, x.shape[0], 1),
    "tile": lambda x: jnp.tile(x, (1, x.shape[0], 1)),
    "roll": lambda x: jnp.roll(x, x.shape[0], 1),
    "top_k": lambda x: jax.lax.top_k(jnp.swapaxes(x, 1, 2), x.shape[0])[0],
    "fft": lambda x: jnp.fft.rfft(x, x.shape[0], axis=1).real,
    "window": lambda x: window(x, (1, x.shape[0], 1), (1, 1, 1), "VALID"),
    "window_stride": lambda x: window(x, (1, 2, 1), (1, x.shape[0], 1), "VALID"),
    "window_padding": lambda x: window(x, (1, 2, 1), (1, 1, 1), ((0, 0), (x.shape[0], 0), (0, 0))),
    "window_dilation": lambda x: window(
        x, (1, 2, 1), (1, 1, 1), "VALID", (1, 1, 1), (1, x.shape[0], 1)
    ),
    "base_dilation": lambda x: window(
        x, (1, 2, 1), (1, 1, 1), "VALID", (1, x.shape[0], 1), (1, 1, 1)
    ),
    "convolution_stride": convolution(window_strides=lambda rows: (rows,)),
    "convolution_padding": convolution(padding=lambda rows: ((rows, 0),)),
    "image_dilation": convolution(lhs_dilation=lambda rows: (rows,)),
    "kernel_dilation": convolution(rhs_dilation=lambda rows: (rows,)),
    "length_of_a_scan": lambda x: jax.lax.scan(
        lambda c, _: (c * 0.5, None), x, None, length=x.shape[0]
    )[0],
    "turns": lambda x: jax.lax.fori_loop(0, x.shape[0], lambda _, c: c * 0.5, x),
    "shared_of_batch_size": lambda x: x + jnp.ones(x.shape[0]).sum(),
    "eye": lambda x: x * jnp.eye(x.shape[0]).sum(),
    "one_hot": lambda x: jax.nn.one_hot(jnp.argmax(x, 1), x.shape[0]),
    "keys": lambda x: x + jax.random.normal(jax.random.split(KEY, x.shape[0])[0]),
    "gradient": lambda x: jax.grad(lambda z: (z ** x.shape[0]).sum())(x),
    "inside_jit": lambda x: jax.jit(lambda z, n: z**n, static_argnums=1)(x, x.shape[0]),
    "inside_scan": lambda x: jax.lax.scan(
        lambda c, _: (jnp.tanh(c) ** x.shape[0], None), x, None, length=2
    )[0],
}


@pytest.mark.parametrize("name", FOLLOWING)
def test_a_number_that_follows_the_batch_is_refused_in_every_parameter(name):
    fun = FOLLOWING[name]
    for strategy in FOLDS:
        with pytest.raises(tdjax.StrategyError, match="not proven"):
            jax.eval_shape(lambda: over_time(fun, strategy, 1)(IMAGE))  # noqa: B023
    with jax.numpy_rank_promotion("allow"):
        auto = tdjax.time_distributed(fun, out_axes=0)(IMAGE)
        assert_same(auto, loop(fun, (IMAGE,), 1, 0), scale=100)


SIZES_THAT_STAY = {
    "features": lambda x: x ** x.shape[-1],
    "a_row": lambda x: x * (x.size // x.shape[0]),
    "at_most_two": lambda x: x ** min(x.shape[0], 2),
    "columns": lambda x: jnp.pad(x, ((0, 0), (x.shape[1], 0), (0, 0))),
}


@pytest.mark.parametrize("name", SIZES_THAT_STAY)
def test_a_number_that_does_not_follow_the_batch_is_proven(name):
    assert refusal(SIZES_THAT_STAY[name], IMAGE) is None


# --- rules of functions that return whole numbers, too ----------------------------------------

CODES = array(5, FEATURES)


def nearest(x):
    return jnp.argmin(((x[:, None] - CODES[None]) ** 2).sum(-1), 1)


def quantized(backward, whole=nearest):
    """Return vector quantization: the nearest code, and which it is."""

    def fun(x):
        return x * 0.5, whole(x)

    return rule(fun, lambda kept, given: (backward(kept[0], given[0]),))


INTEGERS = {
    "mean": quantized(lambda x, g: g - g.mean(0, keepdims=True)),
    "norm": quantized(lambda x, g: g / jnp.sqrt((g * g).sum() + 1)),
    "flip": quantized(lambda x, g: g[::-1]),
    "other_rows": quantized(lambda x, g: g * x.sum()),
    "bools": quantized(lambda x, g: g - g.mean(0, keepdims=True), lambda x: x > 0),
    "several": quantized(lambda x, g: g * x.sum(), lambda x: (nearest(x), x > 0)),
    "batch_size": quantized(lambda x, g: g * x.shape[0]),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_a_rule_beside_whole_numbers_is_followed(name):
    fun = INTEGERS[name]
    assert "derivative" in refusal(fun, X)
    assert_kept(fun, (X,), 1, *OTHERS)


def test_vector_quantization_is_proven():
    assert_proven(quantized(lambda x, g: g * 2), (X,), 1)


def test_a_rule_beside_whole_numbers_inside_a_rule_is_followed():
    inner = quantized(lambda x, g: g * 2, lambda x: x > 0)
    outer = rule(lambda x, w: inner(x)[0] * w[None], lambda kept, g: jax.vjp(
        lambda x, w: inner(x)[0] * w[None], *kept)[1](g))  # fmt: skip
    assert_proven(outer, (X, WEIGHT), (1, None))


# --- two rules on one function ----------------------------------------------------------------


def two_rules(function, backward):
    """Return the product of a function with its own rule, and with another one."""

    def step(x):
        def good(kept, g):
            return (jax.vjp(function, *kept)[1](g)[0],)

        def other(kept, g):
            return (backward(good(kept, g)[0]),)

        return rule(function, good)(x) * rule(function, other)(x)

    return step


TWO_RULES = {
    "tanh": two_rules(jnp.tanh, lambda d: d - d.mean(0, keepdims=True)),
    "sin": two_rules(jnp.sin, lambda d: d[::-1]),
    "relu": two_rules(jax.nn.relu, lambda d: d / (jnp.abs(d).sum() + 1)),
    "softplus": two_rules(jax.nn.softplus, lambda d: d * d.shape[0]),
    "own": two_rules(lambda x: x * 2, lambda d: d - d.mean(0, keepdims=True)),
}


@pytest.mark.parametrize("name", TWO_RULES)
def test_the_second_rule_on_a_function_is_not_taken_for_the_first(name):
    assert_refused(TWO_RULES[name], (X,), 1)


def test_a_rule_inside_a_rule_of_the_same_function_is_followed():
    mixing = rule(jnp.tanh, lambda kept, g: (g - g.mean(0, keepdims=True),))
    outer = rule(jnp.tanh, lambda kept, g: (g * mixing(kept[0]),))
    second = jax.grad(lambda x: (outer(x) ** 2).sum())
    assert refusal(outer, X) is not None
    assert refusal(second, X) is not None


def test_of_two_rules_for_forward_mode_each_is_followed():
    def step(x):
        good, bad = jax.custom_jvp(jnp.tanh), jax.custom_jvp(jnp.tanh)
        good.defjvp(lambda p, t: jax.jvp(jnp.tanh, p, t))
        bad.defjvp(lambda p, t: (jnp.tanh(*p), t[0] - t[0].mean(0, keepdims=True)))
        return good(x) + bad(x)

    assert_refused(step, (X,), 1)


# --- sums over rows, looked at or treated in ways that are not linear --------------------------

WEIGHT = array(FEATURES)


def scaled(x, w):
    return x * w[None]


def of_sum(change):
    """Return a product with a rule whose gradient of the shared factor is changed."""
    return rule(scaled, lambda kept, g: (g * kept[1][None], change((g * kept[0]).sum(0))))


SUMS = {
    "rounded": of_sum(jnp.round),
    "cast": of_sum(lambda d: d.astype(jnp.int32).astype(d.dtype)),
    "cast_of_a_multiple": of_sum(lambda d: (d * 3).astype(jnp.int32).astype(d.dtype) / 3),
    "bool": of_sum(lambda d: (d > 0).astype(d.dtype) * 0.5),
    "cond": of_sum(lambda d: jax.lax.cond(d.sum() > 0, lambda z: z * 2, lambda z: z, d)),
    "cond_by_cast": of_sum(
        lambda d: jax.lax.cond(d.sum().astype(bool), lambda z: z * 2, lambda z: z, d)
    ),
    "switch": of_sum(
        lambda d: jax.lax.switch(d.sum().astype(jnp.int32), [lambda z: z * 2, lambda z: z], d)
    ),
    "while": of_sum(
        lambda d: jax.lax.while_loop(lambda z: jnp.abs(z).max() > 0.1, lambda z: z / 2, d)
    ),
    "turns": of_sum(
        lambda d: jax.lax.fori_loop(0, d.sum().astype(jnp.int32), lambda _, z: z / 2, d)
    ),
    "inside_scan": of_sum(
        lambda d: jax.lax.scan(lambda c, _: (jnp.tanh(c), None), d, None, length=2)[0]
    ),
    "inside_jit": of_sum(jax.jit(jnp.tanh)),
    "clipped": of_sum(lambda d: jnp.clip(d, -0.1, 0.1)),
    "norm": of_sum(lambda d: d / jnp.sqrt((d * d).sum() + 1)),
    "square": of_sum(lambda d: d * d),
    "precision": of_sum(lambda d: jax.lax.reduce_precision(d, 8, 2)),
    "sorted": of_sum(jnp.sort),
}
LINEAR = {
    "twice": of_sum(lambda d: d * 2),
    "reversed": of_sum(lambda d: d[::-1] / 3),
    "inside_scan": of_sum(
        lambda d: jax.lax.scan(lambda c, _: (c * 0.5, None), d, None, length=2)[0]
    ),
    "inside_cond": of_sum(lambda d: jax.lax.cond(jnp.bool_(True), lambda z: z * 2, lambda z: z, d)),
}


@pytest.mark.parametrize("name", SUMS)
def test_what_is_not_linear_in_a_sum_over_rows_is_refused(name):
    assert_refused(SUMS[name], (X, WEIGHT), (1, None))


@pytest.mark.parametrize("name", LINEAR)
def test_what_is_linear_in_a_sum_over_rows_is_proven(name):
    assert_proven(LINEAR[name], (X, WEIGHT), (1, None))


# --- gradients of shared arrays that do not depend on the rows ---------------------------------

CONSTANT = {
    "ones": of_sum(jnp.ones_like),
    "weight": rule(scaled, lambda kept, g: (g * kept[1][None], kept[1])),
    "sine": rule(scaled, lambda kept, g: (g * kept[1][None], jnp.sin(kept[1]))),
    "in_a_loop": rule(
        scaled,
        lambda kept, g: (
            g * kept[1][None],
            jax.lax.fori_loop(0, 3, lambda _, z: z * 0.5, kept[1]),
        ),
    ),
    "loss_scale": rule(scaled, lambda kept, g: (g * kept[1][None], jnp.full_like(kept[1], 7.0))),
}
# Rules on the weights alone, which a fold calls once, with the sum of all cotangents.
ALONE = {
    "clipped": rule(jnp.sin, lambda kept, g: (jnp.clip(g, -0.1, 0.1),)),
    "constant": rule(jnp.sin, lambda kept, g: (jnp.ones_like(g),)),
    "sign": rule(jnp.sin, lambda kept, g: (jnp.sign(g),)),
    "shifted": rule(jnp.sin, lambda kept, g: (g + 1,)),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_a_shared_gradient_whatever_the_rows_are_is_added_up_by_the_loop(name):
    assert_refused(CONSTANT[name], (X, WEIGHT), (1, None))


@pytest.mark.parametrize("name", ALONE)
def test_a_rule_on_shared_arrays_alone_is_called_a_step(name):
    assert_refused(lambda x, w: scaled(x, ALONE[name](w)), (X, WEIGHT), (1, None))


def test_a_linear_rule_on_shared_arrays_alone_is_proven():
    twice = rule(jnp.sin, lambda kept, g: (g * 2,))
    assert_proven(lambda x, w: scaled(x, twice(w)), (X, WEIGHT), (1, None))


def test_a_rule_may_give_a_shared_array_no_gradient():
    fun = rule(scaled, lambda kept, g: (g * kept[1][None], jnp.zeros_like(kept[1])))
    assert_proven(fun, (X, WEIGHT), (1, None))


# --- rules that are not zero where the cotangent is -------------------------------------------

SHIFTED = {
    "maximum": of_sum(lambda d: jnp.maximum(d, 0.5)),
    "plus_one": of_sum(lambda d: d + 1),
    "cosine": of_sum(jnp.cos),
    "of_every_row": rule(scaled, lambda kept, g: (g, (jnp.maximum(g, 0.5) * kept[0]).sum(0))),
}


def solved(solver, *right_sides):
    return jax.lax.custom_linear_solve(
        lambda z: z, right_sides, lambda _, b: tuple(map(solver, b)), lambda _, b: b
    )


def norm(g):
    return jnp.sqrt((g * g).sum(-1, keepdims=True))


# Gradients of rows: what a backward rule makes of the cotangent.
OF_ROWS = {
    "plus_one": lambda g, kept: g + 1,
    "ones": lambda g, kept: jnp.ones_like(g),
    "exponential": lambda g, kept: jnp.exp(g),
    "whatever": lambda g, kept: kept,
    "by_its_norm": lambda g, kept: g / norm(g),
    "times_what_may_be_infinite": lambda g, kept: g * (kept / norm(g)),
    "by_a_root": lambda g, kept: g * jax.lax.rsqrt((g * g).sum(-1, keepdims=True)),
    "by_itself": lambda g, kept: g / (g * kept),
    "solved_with_itself": lambda g, kept: jax.vmap(
        lambda g: jax.lax.linalg.triangular_solve(jnp.diag(g), g[:, None], left_side=True)[:, 0]
    )(g),
    "filled_up": lambda g, kept: g.at[:, np.array([0, 1, 9])].get(mode="fill", fill_value=1.0),
    "written": lambda g, kept: g.at[:, :2].apply(lambda v: v + 1),
    "product_of_none": lambda g, kept: g + jnp.prod(g[:, :0], axis=1, keepdims=True),
    "all_of_none": lambda g, kept: g + jnp.all(g[:, :0] > 0, axis=1, keepdims=True).astype(g.dtype),
    "solver_adds": lambda g, kept: solved(lambda b: b + 1, g)[0],
    "two_right_sides": lambda g, kept: solved(lambda b: b * 2, jnp.ones_like(g), g)[0],
    "as_often_as_it_says": lambda g, kept: jax.lax.fori_loop(
        0, 3, lambda _, z: z / norm(z), g
    ),
    "one_of_two": lambda g, kept: jax.lax.cond(
        jnp.bool_(True), lambda z: z, lambda z: z / norm(z), g
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHIFTED)
def test_rows_that_fill_a_block_add_nothing_to_a_gradient(name):
    assert_refused(SHIFTED[name], (X, WEIGHT), (1, None))


def with_gradient(backward):
    """Return rows times a shared weight, with a rule between that gives them another gradient."""
    ruled = rule(lambda x: x * 2, lambda kept, g: (backward(g, kept[0]),))
    return lambda x, w: ruled(scaled(x, w))


@pytest.mark.parametrize("name", OF_ROWS)
def test_rows_that_fill_a_block_have_no_gradient(name):
    assert_refused(with_gradient(OF_ROWS[name]), (X, WEIGHT), (1, None))


NOTHING_OF_NOTHING = {
    "by_a_norm_and_a_little": lambda g, kept: g / (norm(g) + 1e-6),
    "to_a_norm": lambda g, kept: g * jnp.minimum(1.0, 0.1 / norm(g)),
    "to_a_norm_by_choice": lambda g, kept: jnp.where(norm(g) > 0.1, 0.1 * g / norm(g), g),
    "by_what_is_kept": lambda g, kept: g / kept,
    "solved": lambda g, kept: jnp.linalg.solve(np.eye(FEATURES) + 0.1, g.T).T,
    "moved": lambda g, kept: g[:, ::-1].at[:, 1].set(0.0),
    "while_it_is_large": lambda g, kept: jax.vmap(
        lambda g: jax.lax.while_loop(lambda z: (z * z).sum() > 0.1, lambda z: z / 2, g)
    )(g),
}


@pytest.mark.parametrize("name", NOTHING_OF_NOTHING)
def test_a_gradient_that_is_zero_where_the_cotangent_is(name):
    assert_proven(with_gradient(NOTHING_OF_NOTHING[name]), (X, WEIGHT), (1, None))


# --- values that a rule gives in place of the function's ------------------------------------------


def noise(x):
    return jax.random.normal(KEY, x.shape)


def by_tangents(value):
    fun = jax.custom_jvp(lambda x: x * 2)
    fun.defjvp(lambda primals, tangents: (value(*primals), tangents[0] * 2))
    return fun


VALUES = {
    "noise": lambda x: x * 2 + noise(x),
    "centred": lambda x: x * 2 - x.mean(0),
    "scaled_by_the_batch": lambda x: x * x.shape[0],
    "reversed": lambda x: x[::-1] * 2,
}


@pytest.mark.parametrize("name", VALUES)
def test_the_value_that_a_rule_gives_is_followed(name):
    value = VALUES[name]
    backward = rule(lambda x: x * 2, lambda kept, g: (g * 2,), lambda x: (value(x), (x,)))
    for fun in (backward, by_tangents(value)):
        assert_refused(lambda x, fun=fun: jnp.sin(fun(x)), (X,), 1)


def test_whole_numbers_that_a_rule_gives_are_followed():
    signs = rule(
        lambda x: jnp.sign(x).astype(int),
        lambda kept, g: (jnp.zeros_like(kept[0]),),
        lambda x: (jnp.sign(x - x.mean(0)).astype(int), (x,)),
    )
    assert "mix" in refusal(signs, X) or "rows" in refusal(signs, X)


def test_a_rule_may_give_another_value_of_each_row():
    fun = rule(lambda x: x * 2, lambda kept, g: (g * 2,), lambda x: (x * 2 + 0.1 * x**2, (x,)))
    assert_proven(lambda x: jnp.sin(fun(x)), (X,), 1)


@pytest.mark.parametrize("backward", [jnp.broadcast_arrays, jax.tree.map], ids=["plain", "given"])
def test_a_rule_half_of_which_is_jaxs_is_followed(backward):
    fun = jax.custom_vjp(lambda x, y: jnp.sin(x) + y)
    fun.defvjp(lambda x, y: (jnp.sin(x) + y, x - x.mean(0)), backward)
    if backward is jax.tree.map:
        fun = jax.custom_vjp(jnp.sin)
        fun.defvjp(lambda x: jax.vjp(lambda x: jnp.sin(x - x.mean(0)), x), backward)
        assert_refused(fun, (X,), 1)
        return
    assert_refused(fun, (X, X + 1), (1, 1))


@pytest.mark.parametrize("of", ["exp1", "expi", "rel_entr"])
def test_a_compiled_rule_of_jaxs_is_jaxs(of):
    function = getattr(jax.scipy.special, of)
    arguments = (jnp.abs(X) + 0.1,) * (2 if of == "rel_entr" else 1)
    assert_proven(function, arguments, (1,) * len(arguments))


# --- solvers that need not be linear --------------------------------------------------------------

MATRIX = array(FEATURES, FEATURES)
MATRIX = MATRIX @ MATRIX.T + jnp.eye(FEATURES)


def conjugate(right_side, turns=2, start=None):
    return jax.scipy.sparse.linalg.cg(lambda v: MATRIX @ v, right_side, start, maxiter=turns)[0]


def conjugate_without_end(right_side):
    """Solve in a fixed number of turns, which divide zero by zero where there is nothing to do."""

    def turn(_, state):
        y, rest, way = state
        step = (rest @ rest) / (way @ MATRIX @ way)
        less = rest - step * (MATRIX @ way)
        return y + step * way, less, less + (less @ less) / (rest @ rest) * way

    def solve(_, b):
        return jax.lax.fori_loop(0, 2, turn, (jnp.zeros_like(b), b, b))[0]

    return jax.lax.custom_linear_solve(lambda v: MATRIX @ v, right_side, solve, symmetric=True)


def transposed_by(solver):
    return lambda b: jax.lax.custom_linear_solve(
        lambda v: v, b, lambda _, b: b, lambda _, b: solver(b)
    )


SOLVES = {
    "a_few_turns": conjugate,
    "constant": transposed_by(jnp.ones_like),
    "clipped": transposed_by(lambda b: jnp.clip(b, -0.1, 0.1)),
    "plus_one": transposed_by(lambda b: b + 1),
    "differential_equation": lambda w: odeint(
        lambda y, t: jnp.sin(MATRIX @ y), w, jnp.array([0.0, 3.0]), rtol=0.1, atol=0.1
    )[-1],
}
SOLVES_BY_ROW = {
    "plus_one": jax.vmap(transposed_by(lambda b: b + 1)),
    "zero_by_zero": jax.vmap(conjugate_without_end),
    "from_elsewhere": jax.vmap(lambda b: conjugate(b, start=WEIGHT)),
}
LINEAR_SOLVES = {
    "solve": lambda b: jnp.linalg.solve(MATRIX, b),
    "cholesky": lambda b: jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(MATRIX), b),
    "inverse": lambda b: jnp.linalg.inv(MATRIX) @ b,
    "triangle": lambda b: jax.scipy.linalg.solve_triangular(MATRIX, b),
}


def by_tangent(tangent):
    """Return a function with a rule for forward mode, which something transposes by a rule."""
    fun = jax.custom_jvp(lambda b: b * 2)
    fun.defjvp(lambda primals, tangents: (fun(*primals), tangent(*tangents)))
    return fun


def clipped_back(tangent):
    return linear_call(lambda _, v: v * 2, lambda _, g: jnp.clip(g, -0.1, 0.1), (), tangent)


SOLVES["inside_tangents"] = by_tangent(SOLVES["clipped"])
SOLVES["inside_compiled_tangents"] = jax.jit(by_tangent(jax.jit(SOLVES["constant"])))
SOLVES_BY_ROW["inside_tangents"] = by_tangent(SOLVES_BY_ROW["plus_one"])


@pytest.mark.parametrize("name", SOLVES)
def test_a_solver_on_shared_arrays_alone_has_to_be_linear(name):
    assert_refused(lambda x, w: scaled(x, SOLVES[name](w)), (X, WEIGHT), (1, None))


@pytest.mark.parametrize("name", LINEAR_SOLVES)
def test_a_linear_solver_on_shared_arrays_alone_is_proven(name):
    solve = LINEAR_SOLVES[name]
    assert_proven(lambda x, w: scaled(x, solve(w)), (X, WEIGHT), (1, None))
    assert_proven(lambda x, w: jax.vmap(solve)(scaled(x, w)), (X, WEIGHT), (1, None))


@pytest.mark.parametrize("name", SOLVES_BY_ROW)
def test_a_solver_of_rows_gives_zero_for_zero(name):
    assert_refused(lambda x, w: SOLVES_BY_ROW[name](scaled(x, w)), (X, WEIGHT), (1, None))


def test_a_solver_of_rows_that_starts_from_zero_is_proven():
    assert_proven(lambda x, w: jax.vmap(conjugate)(scaled(x, w)), (X, WEIGHT), (1, None))


TRANSPOSED = {
    "of_weights": lambda x, w: scaled(x, clipped_back(w)),
    "in_tangents_of_weights": lambda x, w: scaled(x, by_tangent(clipped_back)(w)),
    "in_tangents_of_rows": lambda x, w: by_tangent(clipped_back)(scaled(x, w)),
    "in_compiled_tangents": lambda x, w: jax.jit(by_tangent(clipped_back))(scaled(x, w)),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_what_is_transposed_by_a_rule_is_called_a_step(name):
    step, axes = TRANSPOSED[name], (1, None)
    assert_kept(step, (X, WEIGHT), axes, "auto", "map")
    assert refusal(step, X, WEIGHT, in_axes=axes) is not None
    chunks = tdjax.time_distributed(step, in_axes=axes, strategy=tdjax.Vmap(chunk_size=2))
    with pytest.raises(tdjax.StrategyError, match=r"linear_call.* cannot be batched"):
        jax.eval_shape(chunks, X, WEIGHT)


def test_a_rule_is_asked_whatever_was_chosen_for_another_on_the_same_program():
    for rule_of in (lambda t: t * 2, clipped_back, lambda t: t * 3, clipped_back):
        fun = by_tangent(rule_of)
        assert_kept(lambda x, w, fun=fun: scaled(x, fun(w)), (X, WEIGHT), (1, None), "auto")


# --- places that are promised to be unlike each other, or in order --------------------------------


@pytest.mark.parametrize("promise", ["unique_indices", "indices_are_sorted"])
def test_a_promise_of_one_steps_places_in_a_shared_table_is_not_made_of_all(promise):
    places = jnp.tile(jnp.arange(BATCH)[:, None], (1, TIME))

    def look_up(places, table):
        return table.at[places].get(**{promise: True})

    assert promise in refusal(look_up, places, X[0], in_axes=(1, None))
    assert_kept(look_up, (places, X[0]), (1, None), "auto", "map")


@pytest.mark.parametrize("promise", ["unique_indices", "indices_are_sorted"])
def test_nor_is_it_in_a_rule_that_adds_to_the_table(promise):
    places = jnp.tile(jnp.arange(BATCH)[:, None], (1, TIME))

    def backward(kept, g):
        return None, jnp.zeros_like(kept[1]).at[kept[0]].add(g, **{promise: True})

    look_up = rule(lambda places, table: table[places], backward)
    assert_refused(look_up, (places, X[0]), (1, None))


def test_a_promise_of_places_in_rows_of_their_own_is_kept():
    places = jnp.tile(jnp.arange(FEATURES), (BATCH, TIME, 1))

    def look_up(x, places):
        return jax.vmap(lambda x, i: x.at[i].get(unique_indices=True))(x, places)

    assert_proven(look_up, (X, places), (1, 1))


def test_zero_is_followed_through_what_gives_several_outputs():
    kept = rule(lambda x: x * 2, lambda kept, g: (jax.lax.optimization_barrier((g, g))[0],))
    assert_proven(kept, (X,), 1)


def test_what_a_rule_closes_over_is_not_copied_for_every_step():
    constant = rule(lambda x: jnp.sin(CODES[:3, :3]), lambda kept, g: (kept[0] * 0 + 1,))
    assert_kept(lambda x: (constant(x), x * 2), (X,), 1, tdjax.Vmap(chunk_size=2))


@pytest.mark.parametrize("inner", [tdjax.Packed(chunk_size=2), tdjax.Fold(chunk_size=2)], ids=str)
def test_steps_that_are_distributed_inside_stand_beside_rules(inner):
    doubled = rule(lambda x: x * 2, lambda kept, g: (g * 3,))
    mask = np.ones((BATCH, FEATURES), bool) if isinstance(inner, tdjax.Packed) else None

    def step(x):
        return doubled(x), tdjax.time_distributed(jnp.sin, strategy=inner)(x[..., None], mask=mask)

    for strategy in ("auto", "map", tdjax.Vmap(chunk_size=2)):
        assert_kept(step, (X,), 1, strategy)


def test_an_output_that_no_step_changes_has_a_cotangent_of_every_step():
    apart = rule(lambda x, w: jnp.sin(w), lambda kept, g: (kept[0] * 0, jnp.tanh(g)))
    assert_kept(apart, (X, WEIGHT), (1, None), tdjax.Vmap(chunk_size=2))


def test_a_rule_that_clips_is_zero_where_the_cotangent_is():
    clipped = rule(scaled, lambda kept, g: (
        jnp.clip(g, -0.1, 0.1) * kept[1][None], (jnp.maximum(g, 0.0) * kept[0]).sum(0)
    ))  # fmt: skip
    assert_proven(clipped, (X, WEIGHT), (1, None))


# --- rules in loops over rows, which are not followed row by row ---------------------------------

ONES = rule(jnp.sin, lambda kept, g: (jnp.ones_like(g),))
LARGER = rule(jnp.sin, lambda kept, g: (jnp.maximum(g, 0.5),))
BY_ROW = {
    "map": lambda x, ruled: jax.lax.map(ruled, x),
    "scan": lambda x, ruled: jax.lax.scan(lambda _, row: (None, ruled(row)), None, x)[1],
    "cond": lambda x, ruled: jax.lax.map(
        lambda row: jax.lax.cond(row.sum() > 0, ruled, lambda row: row, row), x
    ),
    "jit": lambda x, ruled: jax.lax.map(jax.jit(ruled), x),
    "remat": lambda x, ruled: jax.lax.map(jax.checkpoint(ruled), x),
    "scan_inside": lambda x, ruled: jax.lax.map(lambda row: jax.lax.map(ruled, row), x),
}


@pytest.mark.parametrize("ruled", [ONES, LARGER], ids=["ones", "larger"])
@pytest.mark.parametrize("name", BY_ROW)
def test_a_rule_in_a_loop_over_rows_is_zero_for_a_zero_cotangent(name, ruled):
    fun = functools.partial(BY_ROW[name], ruled=ruled)
    assert "not zero where the cotangent is zero" in refusal(fun, X)
    for strategy in (*FOLDS, "vmap", *OTHERS):
        with pytest.raises(tdjax.StrategyError, match="not zero where"):
            wrapped = tdjax.time_distributed(fun, strategy=strategy)
            jax.grad(lambda x: wrapped(x, mask=MASK).sum())(X)  # noqa: B023
    assert_kept(fun, (X,), 1, *OTHERS)


@pytest.mark.parametrize("name", BY_ROW)
def test_a_rule_in_a_loop_over_rows_is_proven(name):
    ruled = rule(jnp.sin, lambda kept, g: (g * 3,))
    assert_proven(functools.partial(BY_ROW[name], ruled=ruled), (X,), 1)


# --- programs whose parameters are named tuples, beside convolutions --------------------------


def beside_a_convolution(algebra):
    def step(x):
        image = jax.lax.conv_general_dilated(
            x[..., None], KERNEL[:, :1, :1], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )
        matrix = x[:, :, None] * x[:, None] + 3 * jnp.eye(FEATURES)[None]
        return image, algebra(matrix, x[:, :, None])

    return step


ALGEBRA = {
    "solve": jnp.linalg.solve,
    "inv": lambda m, b: jnp.linalg.inv(m),
    "custom": lambda m, b: jax.lax.custom_linear_solve(
        lambda z: z * 2, b, lambda _, r: r / 2, symmetric=True
    ),
}


@pytest.mark.parametrize("name", ALGEBRA)
def test_linear_algebra_beside_a_convolution_runs_in_blocks(name):
    fun = beside_a_convolution(ALGEBRA[name])
    assert_kept(fun, (X,), 1, tdjax.Fold(chunk_size=2), tdjax.Packed(chunk_size=2), "map")


# --- what has no rows, beside rows in one call or loop ------------------------------------------


BESIDE = {
    "jit": lambda x, w: jax.jit(lambda z: (z * 2, w * 2))(x),
    "remat": lambda x, w: jax.checkpoint(lambda z: (z * w[None], w * 2))(x),
    "scan": lambda x, w: jax.lax.scan(
        lambda c, _: ((c[0] * 2, c[1] + x), c[0]), (w, x), None, length=2
    ),
    "cond": lambda x, w: jax.lax.cond(w.sum() > 0, lambda z: (z, w), lambda z: (z * 2, w * 2), x),
    "turns": lambda x, w: jax.lax.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, jax.lax.stop_gradient(c[1] * 2)), (0, x)
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_value_without_rows_comes_out_of_a_call_with_rows(name):
    fun = BESIDE[name]
    full = np.ones((BATCH, TIME), bool)
    for strategy in ("fold", tdjax.Fold(chunk_size=2), tdjax.Packed(chunk_size=2)):
        over_time = tdjax.time_distributed(fun, in_axes=(1, None), out_axes=0, strategy=strategy)
        mask = full if isinstance(strategy, tdjax.Packed) else None
        actual = jax.jit(lambda x, w: over_time(x, w, mask=mask))(X, WEIGHT)  # noqa: B023
        assert_same(actual, loop(fun, (X, WEIGHT), (1, None), 0))
