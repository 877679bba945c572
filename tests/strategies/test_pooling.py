"""Pooling in blocks has the values and the gradients of JAX's own, whatever windows look at."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from casebook import array
from jax import lax

from tdjax import Fold, time_distributed
from tdjax.strategies.convolution.primitive import replace_convolutions

LARGEST, LEAST = (lax.max, -np.inf), (lax.min, np.inf)

# Of each: the images, the window along their axes, its stride, the padding, and what is taken.
POOLS = {
    "2d": ((2, 6, 6, 3), 2, 2, "VALID", LARGEST),
    "2d, over the edges": ((2, 7, 5, 3), 3, 2, "SAME", LARGEST),
    "2d, overlapping": ((2, 7, 5, 3), 3, 1, [(0, 0), (2, 1), (0, 2), (0, 0)], LARGEST),
    "2d, with gaps": ((2, 7, 5, 3), 2, 3, "VALID", LARGEST),
    "2d, the least": ((2, 7, 5, 3), 3, 2, "SAME", LEAST),
    "1d": ((2, 7, 3), 3, 2, "SAME", LARGEST),
    "3d": ((2, 4, 5, 6, 2), 2, 2, "SAME", LARGEST),
}


def put(images, kind):
    random = np.random.default_rng(0)
    if kind == "ties":
        return np.round(images)
    if kind in ("nan", "inf", "-inf"):
        return np.where(random.random(images.shape) < 0.4, float(kind), images)
    return images


def pool(name):
    images, window, stride, padding, (take, beyond) = POOLS[name]
    spread = len(images) - 2
    windows, strides = (1, *[window] * spread, 1), (1, *[stride] * spread, 1)
    return lambda x: lax.reduce_window(x, beyond, take, windows, strides, padding)


def replaced(function):
    def run(x):
        closed = replace_convolutions(jax.make_jaxpr(function)(x))
        return jax.core.eval_jaxpr(closed.jaxpr, closed.consts, x)[0]

    return run


def pulled_back(function, x, cotangent):
    return jax.vjp(function, x)[1](cotangent)[0]


@pytest.mark.parametrize("kind", ["normal", "ties", "nan", "inf", "-inf"])
@pytest.mark.parametrize("name", POOLS)
def test_values_and_derivatives_are_those_of_the_plain_one(name, kind):
    plain = pool(name)
    x = jnp.asarray(put(np.asarray(array(*POOLS[name][0])), kind), jnp.float32)
    cotangent = array(*jax.eval_shape(plain, x).shape, seed=1)

    @jax.jit
    def both(x, cotangent):
        found = []
        for function in (replaced(plain), plain):
            back = functools.partial(pulled_back, function)
            pairs = jnp.stack([x, 2 * x]), jnp.stack([cotangent, -cotangent])
            found.append(
                [
                    function(x),
                    back(x, cotangent),
                    jax.jvp(function, (x,), (jnp.cos(x),))[1],
                    jax.vmap(function, 1, 1)(jnp.stack([x, -x], 1)),
                    jax.vmap(back)(*pairs),
                    jax.vmap(back, (None, 0))(x, pairs[1]),
                    jax.jvp(functools.partial(back, x), (cotangent,), (cotangent,))[1],
                    jax.grad(lambda c, back=back: (back(x, c) ** 2).sum())(cotangent),
                ]
            )
        return found

    ours, right = both(x, cotangent)
    for one, other in zip(ours, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int32, jnp.uint8])
def test_other_dtypes(dtype):
    def plain(x):
        return lax.reduce_window(
            x, least, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), [(0, 0), (1, 1), (0, 0), (0, 0)]
        )  # fmt: skip

    x = (3 * jnp.abs(array(2, 4, 6, 3))).astype(dtype)
    inexact = jnp.issubdtype(dtype, jnp.inexact)
    least = np.asarray(-np.inf if inexact else jnp.iinfo(dtype).min, dtype)
    assert (replaced(plain)(x) == plain(x)).all()
    if inexact:
        cotangent = plain(x)
        found = pulled_back(replaced(plain), x, cotangent)
        assert (found == pulled_back(plain, x, cotangent)).all()


def test_it_is_differentiated_twice():
    def twice(function):
        def inner(x):
            return (jax.grad(lambda x: jnp.sin(function(x * x)).sum())(x) ** 2).sum()

        return jax.grad(inner)(array(2, 6, 6, 3))

    plain = pool("2d")
    ours, right = jax.jit(lambda: (twice(replaced(plain)), twice(plain)))()
    np.testing.assert_allclose(ours, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", [Fold(4), Fold(4, unroll=True), Fold(4, remat=True)])
def test_blocks_pool_by_their_own_operation(strategy):
    x = array(4, 3, 6, 6, 2)
    step = time_distributed(pool("2d"), strategy=strategy)
    gradient = jax.grad(lambda x: jnp.sin(step(x)).sum())
    text = str(jax.make_jaxpr(gradient)(x))
    assert "select_and_scatter_add" not in text.split("platform_index")[0]
    right = jax.grad(lambda x: jnp.sin(jax.vmap(pool("2d"), 1, 1)(x)).sum())(x)
    np.testing.assert_allclose(jax.jit(gradient)(x), right, rtol=1e-5, atol=1e-5)


def test_derivatives_inside_a_step_are_those_of_the_plain_ones():
    plain = pool("2d, over the edges")

    def step(x):
        gradient = jax.grad(lambda x: jnp.sin(plain(x)).sum())(x)
        return gradient + jax.jvp(plain, (x,), (jnp.cos(x),))[1].sum()

    def with_gradient(function, x):
        return function(x), jax.grad(lambda x: jnp.cos(function(x)).sum())(x)

    def both(x):
        return [with_gradient(function, x) for function in (replaced(step), step)]

    x = array(2, 7, 5, 3)
    text = str(jax.make_jaxpr(replaced(step))(x))
    assert "tdjax_window_pick" in text and "tdjax_window_spread" in text
    ours, right = jax.jit(both)(x)
    for one, other in zip(ours, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("on_cpu")
def test_a_gradient_on_a_cpu_selects_and_scatters_nothing():
    x = array(4, 6, 6, 2)
    gradient = jax.jit(jax.grad(lambda x: jnp.sin(replaced(pool("2d"))(x)).sum()))
    assert "select-and-scatter" not in gradient.lower(x).compile().as_text()
    assert "select_and_scatter" in str(jax.make_jaxpr(jax.grad(lambda x: pool("2d")(x).sum()))(x))


def test_large_and_dilated_windows_are_left_alone():
    def wide(x):
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, 9, 9, 1), (1, 1, 1, 1), "VALID"
        )  # fmt: skip

    def dilated(x):
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID", window_dilation=(1, 2, 1, 1)
        )  # fmt: skip

    for plain in (wide, dilated):
        closed = replace_convolutions(jax.make_jaxpr(plain)(array(1, 9, 9, 2)))
        assert "tdjax_window_best" not in str(closed)
