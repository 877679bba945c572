"""Matrices that all rows share, beside rows, and a matrix of each row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from all_orders import assert_is_the_loop, doubles
from jax.scipy import linalg
from probing import refusal

B, T, D = 4, 3, 3
X = doubles(B, T, D)
MATRIX = doubles(D, D, seed=1) + 3 * np.eye(D)
POSITIVE = MATRIX @ MATRIX.T
MATRICES = 0.3 * doubles(B, T, D, D, seed=2) + 3 * np.eye(D)


def tridiagonal(x, diagonals):
    low, middle, high = diagonals
    return jax.lax.linalg.tridiagonal_solve(low, middle, high, x.T).T


SHARED = {
    "inverse_and_determinant": lambda x, m: (x @ jnp.linalg.inv(m)) * jnp.linalg.det(m),
    "log_determinant": lambda x, m: x * jnp.linalg.slogdet(m)[1],
    "solve": lambda x, m: jax.vmap(lambda row: jnp.linalg.solve(m, row))(x),
    "solve_columns": lambda x, m: jnp.linalg.solve(m, x.T),
    "solve_from_the_right": lambda x, m: jax.lax.linalg.triangular_solve(
        m, x, left_side=False, lower=True
    ),
    "cholesky_solve": lambda x, m: jax.vmap(lambda r: linalg.cho_solve(linalg.cho_factor(m), r))(x),
    "lu_solve": lambda x, m: linalg.lu_solve(linalg.lu_factor(m), x.T).T,
    "factors": lambda x, m: x @ jnp.linalg.qr(m)[1] @ jnp.linalg.eigh(m)[1],
}


@pytest.mark.parametrize("name", SHARED)
def test_rows_meet_a_matrix_that_all_share(name):
    rows = 1 if name == "solve_columns" else 0
    assert_is_the_loop(SHARED[name], X, POSITIVE, in_axes=(1, None), rows=rows)


def test_rows_are_right_hand_sides_of_a_tridiagonal_system():
    low, middle, high = 0.1 * doubles(3, D)
    low[0] = high[-1] = 0
    assert_is_the_loop(tridiagonal, X, (low, middle + 2, high), in_axes=(1, None), order=1)


def test_a_matrix_of_each_row_meets_a_right_hand_side_that_all_share():
    def step(matrices, shared):
        solved = jax.vmap(lambda m: jnp.linalg.solve(m, shared))(matrices)
        return solved, jax.vmap(lambda m: linalg.solve_triangular(m, shared, lower=True))(matrices)

    assert_is_the_loop(step, MATRICES, MATRIX, in_axes=(1, None))


def test_a_matrix_of_the_step_gives_what_has_no_rows():
    def step(x, m):
        return x * jnp.linalg.det(m) + jnp.linalg.inv(m).sum()

    assert_is_the_loop(step, X, MATRICES[0], in_axes=(1, 0), order=1)


def test_rows_that_stand_for_a_matrix_are_refused():
    message = refusal(lambda x: jnp.linalg.qr(x)[0], jnp.asarray(X, jnp.float32))
    assert "takes the rows for a matrix" in message
