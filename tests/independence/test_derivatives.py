"""Derivative rules written by hand are part of the program: a gradient may not change either."""

import functools

import jax
import jax.extend
import jax.numpy as jnp
import pytest
from all_orders import assert_is_the_loop, doubles
from cases import array
from oracle import assert_same, loop
from probing import refusal

import tdjax
from tdjax.independence.rules import derivatives
from tdjax.testing import assert_same_as_loop

X = array(4, 5, 3)
STRATEGIES = ["fold", tdjax.Fold(chunk_size=3), "auto", "map"]


def custom_jvp(tangent):
    @jax.custom_jvp
    def fun(x):
        return jnp.sin(x)

    fun.defjvp(lambda primals, tangents: (fun(*primals), tangent(*primals, *tangents)))
    return fun


def custom_vjp(backward):
    @jax.custom_vjp
    def fun(x):
        return jnp.sin(x)

    fun.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (backward(x, g),))
    return fun


def centred(x):
    return jnp.sin(x - x.mean(0, keepdims=True))


def by_jax(static=False):
    """Return a function whose rule is `jax.jvp`, of a function that it is given."""
    if static:
        fun = jax.custom_jvp(lambda _, x: jnp.sin(x), nondiff_argnums=(0,))
        fun.defjvp(jax.jvp)
        return functools.partial(fun, centred)
    fun = jax.custom_jvp(jnp.sin)
    fun.defjvp(functools.partial(jax.jvp, centred))
    return fun


def by_program():
    """Return a function whose rule is a program, which JAX calls."""
    x = X[:, 0]
    program = jax.make_jaxpr(lambda x, g: (g - (g * x).mean(0, keepdims=True),))(x, x)
    fun = jax.custom_vjp(jnp.sin)
    fun.defvjp(lambda x: (jnp.sin(x), x), jax.extend.core.jaxpr_as_fun(program))
    return fun


MIXING = {
    "jvp_is_jaxs_of_a_function": by_jax(),
    "jvp_is_jaxs_of_an_argument": by_jax(static=True),
    "vjp_is_a_program": by_program(),
    "jvp_centres": custom_jvp(lambda x, t: t - t.mean(0, keepdims=True)),
    "jvp_scales_by_batch": custom_jvp(lambda x, t: t / x.shape[0]),
    "jvp_primal_mean": custom_jvp(lambda x, t: t * x.sum()),
    "vjp_clips_by_norm": custom_vjp(lambda x, g: g / jnp.sqrt((g * g).sum())),
    "vjp_scales_by_batch": custom_vjp(lambda x, g: g / x.shape[0]),
    "vjp_uses_other_rows": custom_vjp(lambda x, g: g * jnp.flip(x, 0)),
    "vjp_numbers_rows": custom_vjp(lambda x, g: g * jnp.arange(x.shape[0], dtype=x.dtype)[:, None]),
    "vjp_asks_for_its_batch": custom_vjp(lambda x, g: g * (2.0 if x.shape[0] == 4 else 1.0)),
    "jvp_asks_for_its_batch": custom_jvp(lambda x, t: t * (2.0 if x.shape[0] == 4 else 1.0)),
    "inside_jit": lambda x: jax.jit(MIXING["vjp_clips_by_norm"])(x) * 2,
    "inside_scan": lambda x: jax.lax.scan(
        lambda c, _: (MIXING["jvp_centres"](c), ()), x, None, length=2
    )[0],
    "inside_remat": lambda x: jax.checkpoint(MIXING["vjp_clips_by_norm"])(x),
}
SEPARATE = {
    "jvp": custom_jvp(lambda x, t: t * jnp.cos(x)),
    "jvp_of_a_row": custom_jvp(lambda x, t: t - t.mean(-1, keepdims=True)),
    "vjp_clip": custom_vjp(lambda x, g: jnp.clip(g, -0.1, 0.1)),
    "vjp_of_a_row": custom_vjp(lambda x, g: g / (1 + jnp.abs(g).sum(-1, keepdims=True))),
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "elu": jax.nn.elu,
    "logsumexp": lambda x: jax.nn.logsumexp(x, -1),
    "standardize": lambda x: jax.nn.standardize(x, -1),
    "softplus": jax.nn.softplus,
}


def gradient(fun, x):
    return jax.grad(lambda x: jnp.sin(fun(x)).sum())(x)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("name", MIXING)
def test_rules_that_mix_rows_keep_their_gradient_or_are_refused(name, strategy):
    fun = MIXING[name]
    wrapped = tdjax.time_distributed(fun, strategy=strategy)
    try:
        ours = jax.jit(lambda x: gradient(wrapped, x))(X)
    except tdjax.StrategyError as error:
        assert isinstance(strategy, tdjax.Fold) or strategy == "fold"
        assert "derivative" in str(error)
        return
    theirs = jax.jit(lambda x: gradient(lambda x: loop(fun, (x,)), x))(X)
    assert_same(ours, theirs, scale=20)


@pytest.mark.parametrize("name", SEPARATE)
def test_rules_that_keep_rows_apart_are_proven(name):
    fun = SEPARATE[name]
    assert refusal(fun, X) is None
    assert_same_as_loop(fun, X, strategies=["fold"])


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_a_rule_for_a_shared_weight_gives_its_gradient(strategy):
    @jax.custom_vjp
    def linear(x, weight):
        return x @ weight

    linear.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))
    weight = array(3, 2)

    def loss(fun, weight):
        return jnp.sin(fun(X, weight)).sum()

    wrapped = tdjax.time_distributed(linear, in_axes=(1, None), strategy=strategy)
    try:
        ours = jax.grad(lambda w: loss(wrapped, w))(weight)
    except tdjax.StrategyError:
        assert strategy not in ("auto", "map")
        return
    theirs = jax.grad(lambda w: loss(lambda *args: loop(linear, args, (1, None)), w))(weight)
    assert_same(ours, theirs, scale=20)


def looking_up(start, places):
    """Return a table's lookup whose rule adds up what each row gives to its place."""

    @jax.custom_vjp
    def fun(x, table):
        return table[places(x)] * x

    def backward(kept, g):
        x, table = kept
        gradient = jnp.full_like(table, start).at[places(x)].add(g * x)
        return g * table[places(x)], gradient

    fun.defvjp(lambda x, table: (fun(x, table), (x, table)), backward)
    return fun


def nearest(x):
    return jnp.argmax(x, 1)


def quantized():
    """Return the nearest entries of a book, and which they are; gradients go straight through."""

    @jax.custom_vjp
    def fun(x, book):
        chosen = jnp.argmin(((x[:, None] - book[None]) ** 2).sum(-1), 1)
        return book[chosen], chosen

    def backward(kept, g):
        chosen, book = kept
        return g[0], jnp.zeros_like(book).at[chosen].add(g[0])

    fun.defvjp(lambda *args: (fun(*args), (fun(*args)[1], args[1])), backward)
    return lambda x, book: fun(x, book)[0] + x


ADDING_UP = {
    "lookup": looking_up(0.0, nearest),
    "places_beyond": looking_up(0.0, lambda x: jnp.round(x[:, 0] * 5).astype(jnp.int32)),
    "quantized": quantized(),
}


@pytest.mark.parametrize("name", ADDING_UP)
def test_a_rule_may_add_up_in_a_shared_array_where_each_row_says(name):
    assert_is_the_loop(ADDING_UP[name], doubles(4, 5, 3), doubles(3, 3), in_axes=(1, None))


NOT_ADDING_UP = {
    "starts_at_one": looking_up(1.0, nearest),
    "rows_where_others_say": looking_up(0.0, lambda x: nearest(x)[::-1]),
    "numbered_rows": looking_up(0.0, lambda x: jnp.arange(x.shape[0]) % 3),
    "shared_places": looking_up(0.0, lambda x: jnp.zeros(x.shape[0], jnp.int32) + 1),
}


@pytest.mark.parametrize("name", NOT_ADDING_UP)
def test_a_rule_that_adds_to_something_or_elsewhere_is_kept_or_refused(name):
    fun, args = NOT_ADDING_UP[name], (X, array(3, 3))
    if name != "shared_places":
        assert refusal(fun, *args, in_axes=(1, None)) is not None
    assert_same_as_loop(fun, *args, in_axes=(1, None), strategies=["map", "auto"])


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_a_rule_that_averages_a_weights_gradient_is_kept_or_refused(strategy):
    @jax.custom_vjp
    def linear(x, weight):
        return x @ weight

    linear.defvjp(
        lambda x, w: (x @ w, (x, w)),
        lambda kept, g: (g @ kept[1].T, kept[0].T @ g / jnp.sqrt((g * g).sum())),
    )
    weight = array(3, 2)

    def loss(fun, weight):
        return jnp.sin(fun(X, weight)).sum()

    wrapped = tdjax.time_distributed(linear, in_axes=(1, None), strategy=strategy)
    try:
        ours = jax.grad(lambda w: loss(wrapped, w))(weight)
    except tdjax.StrategyError:
        assert strategy not in ("auto", "map")
        return
    theirs = jax.grad(lambda w: loss(lambda *args: loop(linear, args, (1, None)), w))(weight)
    assert_same(ours, theirs, scale=20)


def _is_zero(value):
    return isinstance(value, jax.custom_derivatives.SymbolicZero)


def _told_by_tangents():
    """Mixes rows where the scale has no tangent."""

    @jax.custom_jvp
    def scaled(x, scale):
        return x * scale

    def rule(primals, tangents):
        (x, scale), (dx, dscale) = primals, tangents
        dx = jnp.zeros_like(x) if _is_zero(dx) else dx
        if _is_zero(dscale):
            return x * scale, dx * scale - dx.mean(0, keepdims=True)
        return x * scale, dx * scale + dscale * x

    scaled.defjvp(rule, symbolic_zeros=True)
    return lambda x: scaled(x, 1.5)


def _told_by_primals():
    """Mixes rows where the gradient of the scale is not wanted."""

    @jax.custom_vjp
    def scaled(x, scale):
        return x * scale

    def forward(x, scale):
        return x.value * scale.value, (x.value if scale.perturbed else None, scale.value)

    def backward(kept, g):
        x, scale = kept
        if x is None:
            return g * scale - g.mean(0, keepdims=True), jnp.zeros_like(scale)
        return g * scale, (g * x).sum()

    scaled.defvjp(forward, backward, symbolic_zeros=True)
    return lambda x: scaled(x, jnp.float32(1.5))


def _told_by_cotangents():
    """Mixes rows where the second output is not used."""

    @jax.custom_vjp
    def two(x):
        return x * 2, x * 3

    def backward(_, cotangents):
        first, second = cotangents
        if _is_zero(second):
            return (first * 2 - first.mean(0, keepdims=True),)
        return (first * 2 + second * 3,)

    two.defvjp(lambda x: ((x.value * 2, x.value * 3), None), backward, symbolic_zeros=True)
    return lambda x: two(x)[0]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("make", [_told_by_tangents, _told_by_primals, _told_by_cotangents])
def test_a_rule_that_is_told_what_is_wanted_is_not_folded(make, strategy):
    fun = make()
    wrapped = tdjax.time_distributed(fun, strategy=strategy)
    if strategy not in ("auto", "map"):
        with pytest.raises(tdjax.StrategyError, match="symbolic_zeros"):
            wrapped(X)
        return
    assert_same_as_loop(fun, X, strategies=[strategy])


def binarized(elsewhere):
    """Return the sign of an array; its gradient is passed on only where the array is small."""

    @jax.custom_vjp
    def sign(x):
        return jnp.sign(x)

    def backward(x, g):
        return (jnp.where(jnp.abs(x) < 1, g, jnp.full_like(g, elsewhere)),)

    sign.defvjp(lambda x: (jnp.sign(x), x), backward)
    return sign


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("elsewhere", [0.0, 0.5])
def test_a_gradient_of_shared_weights_that_is_a_choice(strategy, elsewhere):
    def step(x, weight):
        return x @ binarized(elsewhere)(weight)

    def loss(fun, weight):
        return jnp.sin(fun(X, weight)).sum()

    weight = array(3, 2)
    wrapped = tdjax.time_distributed(step, in_axes=(1, None), strategy=strategy)
    try:
        ours = jax.jit(jax.grad(lambda w: loss(wrapped, w)))(weight)
    except tdjax.StrategyError:
        assert elsewhere and strategy not in ("auto", "map")
        return
    theirs = jax.grad(lambda w: loss(lambda *args: loop(step, args, (1, None)), w))(weight)
    assert_same(ours, theirs, scale=20)


def test_a_rule_is_followed_once_however_often_it_is_called(monkeypatch):
    """What JAX keeps of a rule is known by its form: another form is followed at every call."""
    seen = []
    follow = derivatives.derivative_program
    monkeypatch.setattr(
        derivatives,
        "derivative_program",
        lambda *args: seen.append(args[0].primitive.name) or follow(*args),
    )
    counts = []
    for calls in (1, 4):
        seen.clear()

        def step(x, calls=calls):
            for _ in range(calls):
                x = jax.nn.relu(x * 1.5) + binarized_once(x)
            return x

        assert refusal(step, X) is None
        counts.append((seen.count("custom_jvp_call"), seen.count("custom_vjp_call")))
    assert counts[0] == counts[1] and min(counts[0]) > 0


binarized_once = jax.custom_vjp(jnp.tanh)
binarized_once.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (g * (1 - jnp.tanh(x) ** 2),))
