"""Rules that are not zero for a zero cotangent: masked steps add nothing to gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array

import tdjax

X, SCALE = array(2, 4, 3), jnp.float32(1.5)
STRATEGIES = (
    "vmap",
    "map",
    "unroll",
    tdjax.Vmap(chunk_size=3),
    tdjax.Vmap(chunk_size=2, remat=True),
    "auto",
    "fold",
    "packed",
    tdjax.Fold(chunk_size=3),
)
SEES_STEPS = STRATEGIES[:6]
MASKS = {
    "whole steps": np.array([[1, 0, 1, 0], [1, 0, 1, 0]], bool),
    "rows of steps": np.array([[1, 1, 0, 0], [0, 1, 1, 0]], bool),
    "nothing": np.zeros((2, 4), bool),
}


def rule(backward):
    @jax.custom_vjp
    def scaled(x, scale):
        return x * scale

    scaled.defvjp(lambda x, scale: (x * scale, (x, scale)), backward)
    return scaled


def of_scale(backward):
    """A rule on what steps share alone."""

    @jax.custom_vjp
    def same(scale):
        return scale * 1

    same.defvjp(lambda scale: (scale * 1, scale), lambda scale, g: (backward(scale, g),))
    return lambda x, scale: x * same(scale)


# What a step adds once, whatever its rows are.
ONCE_A_STEP = {
    "a constant more": rule(lambda r, g: (g * r[1], (g * r[0]).sum() + 1)),
    "a constant": rule(lambda r, g: (g * r[1], jnp.ones(()))),
    "the value": rule(lambda r, g: (g * r[1], r[1])),
    "largest row": rule(lambda r, g: (g * r[1], jnp.abs(r[0]).max())),
    "floor for what is shared": of_scale(lambda s, g: jnp.maximum(g, 0.5)),
    "more for what is shared": of_scale(lambda s, g: g + s),
}
# What every row adds.
A_ROW = {
    "floor for rows": rule(lambda r, g: (jnp.maximum(g, 0.5), (g * r[0]).sum())),
    "a number a row": rule(lambda r, g: (g * r[1], ((g + 1) * r[0]).sum())),
}


def gradients(run):
    def loss(x, scale):
        return (run(x, scale) * jnp.cos(jnp.arange(24.0)).reshape(2, 4, 3)).sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(X, SCALE)


def loop(fun, mask):
    """The loop, in which nothing is computed where no row is real."""

    def run(x, scale):
        outputs = [
            jnp.where(mask[:, t, None], fun(x[:, t], scale), 0)
            if mask[:, t].any()
            else jnp.zeros_like(x[:, t])
            for t in range(x.shape[1])
        ]
        return jnp.stack(outputs, 1)

    return run


def wrapped(fun, strategy, mask, **options):
    timed = tdjax.time_distributed(fun, in_axes=(1, None), strategy=strategy, **options)
    return lambda x, scale: timed(x, scale, mask=mask)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ONCE_A_STEP)
def test_masked_steps_add_nothing(name, mask):
    fun, mask = ONCE_A_STEP[name], MASKS[mask]
    expected = gradients(loop(fun, mask))
    ran = []
    for strategy in STRATEGIES:
        try:
            found = gradients(wrapped(fun, strategy, mask))
        except tdjax.StrategyError:
            continue
        ran.append(strategy)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5, err_msg=str(strategy))
        assert not np.asarray(found[0])[~mask].any()
    assert ran == list(SEES_STEPS)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("name", A_ROW)
def test_what_masked_rows_would_add_is_refused_where_it_matters(name, strategy):
    fun, mask = A_ROW[name], MASKS["rows of steps"]
    with pytest.raises(tdjax.StrategyError, match="is not zero where the cotangent is zero"):
        gradients(wrapped(fun, strategy, mask))
    if strategy in SEES_STEPS:
        value = wrapped(fun, strategy, mask)(X, SCALE)
        np.testing.assert_allclose(value, np.where(mask[..., None], X * SCALE, 0), rtol=1e-6)


@pytest.mark.parametrize("strategy", SEES_STEPS, ids=str)
@pytest.mark.parametrize("name", A_ROW)
def test_what_is_kept_has_the_loops_gradients(name, strategy):
    fun, mask = A_ROW[name], MASKS["rows of steps"]
    expected = gradients(loop(fun, np.ones_like(mask)))
    found = gradients(wrapped(fun, strategy, mask, masked_output="keep"))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_nothing_that_steps_have_for_their_own():
    """A rule on shared arrays alone, in a call that maps nothing."""

    @jax.custom_vjp
    def same(scale):
        return scale * 1

    same.defvjp(lambda scale: (scale * 1, None), lambda _, g: (jnp.maximum(g, 0.5),))
    for strategy in ("vmap", "map", tdjax.Vmap(chunk_size=2), "auto"):
        timed = tdjax.time_distributed(
            same, in_axes=None, out_axes=0, axis_size=3, strategy=strategy
        )
        found = jax.grad(lambda s, f=timed: (f(s) * 0.1).sum())(jnp.ones(2))
        if strategy != "vmap":
            np.testing.assert_allclose(found, 1.5, rtol=1e-6)
