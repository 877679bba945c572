"""What nothing reads may mix rows: dead code, and what called programs give that is left unread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from all_orders import assert_is_the_loop, doubles
from jax import lax
from probing import refusal

import tdjax
from tdjax.core.opened import open_program

B, T, D = 4, 3, 3
X = doubles(B, T, D)
W = doubles(D, D, seed=1)


def useless(row):
    row.sum(0)
    jnp.cumsum(row, 0)
    return row * 2


def centered(x):
    """Return something with rows, and something that mixes them, singular where they are equal."""
    return jnp.sin(x), jnp.sqrt(x - x[::-1]) * jnp.cumsum(x, 0)


@jax.custom_jvp
def ruled(x):
    return jnp.tanh(x)


@ruled.defjvp
def _(primals, tangents):
    (x,), (moved,) = primals, tangents
    centered(x)[1] + jnp.cumsum(moved, 0)
    return ruled(x), moved * (1 - jnp.tanh(x) ** 2)


@jax.custom_vjp
def backward(x, w):
    return jnp.tanh(x @ w)


def _forward(x, w):
    jnp.cumsum(x, 0)
    return backward(x, w), (x, w)


def _backward(kept, cotangent):
    x, w = kept
    jax.jit(centered)(cotangent)[1] * 2
    inside = cotangent * (1 - jnp.tanh(x @ w) ** 2)
    return inside @ w.T, x.T @ inside


backward.defvjp(_forward, _backward)


def carried_apart(x, w):
    def turn(carry, scale):
        kept, mixed, told = carry
        return (jnp.tanh(kept @ w) * scale, jnp.cumsum(mixed, 0), told + mixed.sum()), mixed

    start = x, x - x.mean(0, keepdims=True), jnp.zeros((), x.dtype)
    return lax.scan(turn, start, jnp.asarray(doubles(2)))[0][0]


def carried_in_turn(x, w):
    """The first carry needs the second, that the third, and nothing needs the fourth."""

    def turn(carry, _):
        first, second, third, fourth = carry
        return (first + second, second * 0.5 + third, jnp.sin(third), fourth[::-1] + first), fourth

    return lax.scan(turn, (x, x @ w, x * 2, jnp.cumsum(x, 0)), None, length=3)[0][0]


def stacked_apart(x, w):
    return lax.scan(lambda c, _: (c @ w, (jnp.cumsum(c, 0), c)), x, None, length=2)[1][1].sum(0)


def scanned_over_rows(x):
    return lax.scan(lambda c, row: (c + row, jnp.sin(row)), jnp.zeros(D, x.dtype), x)[1]


def read_within(x, w):
    def turn(carry, each):
        kept, mixed = carry
        return (kept @ (w * each[0]), mixed + kept.sum(0)), None

    given = jnp.stack([jnp.ones(2, x.dtype), jnp.asarray(doubles(2))], 1)
    return lax.scan(turn, (x, x.mean(0)), given)[0][0]


def turns(x):
    def body(carry):
        count, kept, mixed = carry
        return count + 1, jnp.cos(kept), mixed + jnp.cumsum(kept, 0)

    return lax.while_loop(lambda c: c[0] < 3, body, (0, x, x[::-1]))[1]


def branches(x, w):
    which = lax.cond(
        w.sum() > 0,
        lambda x, mixed: (x * 2, mixed * 2, mixed),
        lambda x, mixed: (jnp.sin(x), jnp.cumsum(x, 0), x),
        x,
        jnp.sqrt(x - x[:1]),
    )
    return which[0]


def noisy(x, key):
    kept, _, noise = jax.jit(
        lambda x, key: (x * 2, jax.random.normal(key, x.shape).cumsum(0), jax.random.normal(key))
    )(x, key)
    return kept + noise


def noisy_turns(x, key):
    def turn(carry, key):
        kept, mixed = carry
        noise = jax.random.normal(key, x.shape, x.dtype)
        return (kept + noise, mixed + jnp.cumsum(noise, 0)), None

    return lax.scan(turn, (x, x), jax.random.split(key, 2))[0][0]


STEPS = {
    "dead": useless,
    "dead_in_jit": jax.jit(useless),
    "dead_in_checkpoint": jax.checkpoint(useless),
    "dead_in_scan": lambda x: lax.scan(lambda c, _: (useless(c), None), x, None, length=2)[0],
    "dead_in_cond": lambda x: lax.cond(x.size > 0, useless, jax.jit(useless), x),
    "dead_in_a_rule_forward": ruled,
    "dead_in_a_rule_backward": lambda x: backward(x, jnp.asarray(W)),
    "jit": lambda x: jax.jit(centered)(x)[0],
    "jit_in_jit": lambda x: jax.jit(lambda x: jax.jit(centered)(x)[::-1])(x)[1],
    "jit_in_vmap": lambda x: jax.vmap(lambda x: jax.jit(centered)(x)[0], 1, 1)(x),
    "unread_argument": lambda x: jax.jit(lambda x, _: x * 2)(x, jnp.cumsum(x, 0)),
    "checkpoint": lambda x: jax.checkpoint(centered)(x)[0],
    "unread_of_a_rule_within": lambda x: jax.jit(lambda x: (ruled(x), ruled(x).cumsum(0)))(x)[0],
    "scan": lambda x: carried_apart(x, jnp.asarray(W)),
    "scan_in_turn": lambda x: carried_in_turn(x, jnp.asarray(W)),
    "scan_stacked": lambda x: stacked_apart(x, jnp.asarray(W)),
    "scan_over_rows": scanned_over_rows,
    "scan_in_checkpoint": lambda x: jax.checkpoint(read_within)(x, jnp.asarray(W)),
    "scan_in_jit": lambda x: jax.jit(lambda x: (x, carried_apart(x, W), x.cumsum(0)))(x)[1],
    "cond": lambda x: branches(x, jnp.asarray(W)),
    "cond_in_scan": lambda x: lax.scan(
        lambda c, _: (branches(c, jnp.asarray(W)), None), x, None, length=2
    )[0],
}


@pytest.mark.parametrize("name", STEPS)
def test_what_nothing_reads_may_mix_rows(name):
    assert_is_the_loop(STEPS[name], X)


def test_a_loop_of_a_number_of_turns_need_not_carry_what_nothing_reads():
    assert_is_the_loop(turns, X, reverse=False)


@pytest.mark.parametrize("step", [noisy, noisy_turns])
def test_what_nothing_reads_of_noise_shifts_no_other(step):
    assert_is_the_loop(step, X, jax.random.split(jax.random.key(0), T), in_axes=(1, 0))


READ = {
    "jit": lambda x: jax.jit(lambda x: (x, jnp.cumsum(x, 0)))(x)[1],
    "scan": lambda x: lax.scan(
        lambda c, _: ((c[0] + c[1], c[2], c[2] + jnp.cumsum(c[2], 0)), None),
        (x, x, x),
        None,
        length=3,
    )[0][0],
    "while": lambda x: lax.while_loop(
        lambda c: c[0].sum() < 3, lambda c: (c[0] + 1, c[1] * 2), (x, x)
    )[1],
    "cond": lambda x: lax.cond(x.sum() > 0, lambda x: (x, x), lambda x: (x * 2, x), x)[0],
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read_after_some_turns_or_to_choose_is_followed(name):
    assert refusal(READ[name], jnp.asarray(X)) is not None


def test_what_has_effects_is_never_dead():
    said = []

    def step(x):
        return jax.jit(lambda x: (x * 2, jax.debug.callback(lambda _: said.append(1), x[0]))[0])(x)

    folded = tdjax.time_distributed(step, strategy="fold")
    jax.block_until_ready(folded(jnp.asarray(X)))
    jax.effects_barrier()
    assert said


def programs_inside(traced):
    return [eqn.params["jaxpr"] for eqn in traced.eqns if "jaxpr" in eqn.params]


def test_programs_without_what_is_unread_are_the_same_objects_every_time():
    called = jax.jit(centered)

    def step(x):
        return called(x)[0]

    first, second = (open_program(jax.make_jaxpr(step)(np.ones((4, 3))).jaxpr) for _ in range(2))
    assert programs_inside(first) and len(programs_inside(first)[0].jaxpr.outvars) == 1
    assert all(a is b for a, b in zip(*map(programs_inside, (first, second)), strict=True))
    whole = jax.make_jaxpr(lambda x: called(x))(np.ones((4, 3))).jaxpr
    assert open_program(whole).eqns[-1] is whole.eqns[-1]
