"""Loops that go round as often as each row says, as `jax.vmap` makes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from all_orders import assert_is_the_loop, doubles
from jax.experimental.ode import odeint
from probing import refusal

B, T, D = 4, 3, 3
X = doubles(B, T, D)
MATRIX = doubles(D, D, seed=1) + 3 * np.eye(D)
COUNTS = np.array([[0, 3, 1], [2, 5, 0], [1, 1, 4], [6, 0, 2]], np.int32)


def cube_root(row):
    def better(root):
        return root - (root**3 - row) / (3 * root**2)

    return jax.lax.while_loop(
        lambda root: (jnp.abs(root**3 - row) > 1e-6).any(), better, jnp.ones_like(row)
    )


def doubled(row, count):
    return jax.lax.while_loop(
        lambda carry: carry[0] < count,
        lambda carry: (carry[0] + 1, carry[1] * 1.1),
        (jnp.zeros_like(count), row),
    )


def noisy(row, key):
    def again(carry):
        key, value = carry
        key, now = jax.random.split(key)
        return key, value * 0.5 + 0.1 * jax.random.normal(now, value.shape, value.dtype)

    return jax.lax.while_loop(lambda carry: jnp.abs(carry[1]).max() > 0.3, again, (key, row))[1]


def test_each_row_goes_round_until_it_has_converged():
    assert_is_the_loop(jax.vmap(cube_root), np.abs(X) + 0.5, reverse=False)
    assert_is_the_loop(lambda x: jax.vmap(cube_root, 1, 1)(x.T).T, np.abs(X) + 0.5, reverse=False)
    assert_is_the_loop(jax.vmap(jax.vmap(cube_root)), np.abs(X) + 0.5, reverse=False)


def test_each_row_goes_round_as_often_as_it_says():
    assert_is_the_loop(jax.vmap(doubled), X, COUNTS, reverse=False)
    keys = jax.random.split(jax.random.key(0), (B, T))
    assert_is_the_loop(jax.vmap(noisy), X, keys, reverse=False)


def test_conjugate_gradients_of_each_row():
    def step(x, matrix):
        solve = jax.scipy.sparse.linalg.cg
        return jax.vmap(lambda row: solve(lambda v: matrix @ v, row, tol=1e-8)[0])(x)

    assert_is_the_loop(step, X, MATRIX @ MATRIX.T, in_axes=(1, None))


def test_an_ordinary_differential_equation_of_each_row():
    def step(x, matrix):
        def slope(y, t, matrix):
            return jnp.tanh(matrix @ y) * 0.1

        return jax.vmap(lambda row: odeint(slope, row, jnp.array([0.0, 0.3]), matrix))(x)

    assert_is_the_loop(step, X, MATRIX, in_axes=(1, None), order=1)


WHERE_ALL_STOP = {
    "any": lambda x: jax.lax.while_loop(lambda c: (c > 0.1).any(), lambda c: c / 2, x),
    "norm": lambda x: jax.lax.while_loop(lambda c: (c * c).sum() > 0.1, lambda c: c / 2, x),
    "first_row": lambda x: jax.lax.while_loop(lambda c: c[0, 0] > 0.1, lambda c: c / 2, x),
}


@pytest.mark.parametrize("name", WHERE_ALL_STOP)
def test_a_stopping_condition_over_all_rows_is_refused_with_what_to_write_instead(name):
    message = refusal(WHERE_ALL_STOP[name], jnp.asarray(X, jnp.float32))
    assert "`jax.vmap` of the loop, inside the step" in message
    assert "test_loops.py" in message
