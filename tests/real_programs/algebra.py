"""Linear algebra: of matrices that every row has, and of matrices that all rows share."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from real_programs.book import positive, program, rows, weights

N = 3
MATRIX = rows(N, N)
VECTOR = rows(N, seed=1)
SHARED = weights(N, N)


def definite(x):
    return x @ jnp.swapaxes(x, -1, -2) + 2 * jnp.eye(N)


@program(MATRIX, VECTOR)
def solve(a, b):
    return jnp.linalg.solve(definite(a), b[..., None])[..., 0]


@program(SHARED, VECTOR)
def solve_with_a_shared_matrix_for_columns(a, b):
    return jnp.linalg.solve(definite(a), b.T).T


@program(SHARED, VECTOR)
def inverse_of_a_shared_matrix(a, b):
    return b @ jnp.linalg.inv(definite(a))


@program(MATRIX)
def determinants(a):
    return jnp.linalg.det(a), jnp.linalg.slogdet(definite(a))


@program(SHARED, VECTOR)
def determinant_of_a_shared_matrix(a, b):
    return b * jnp.linalg.det(a) + jnp.linalg.slogdet(a)[1]


@program(SHARED, VECTOR)
def normal_density_with_shared_covariance(a, x):
    factor = jnp.linalg.cholesky(definite(a))
    white = jax.scipy.linalg.solve_triangular(factor, x.T, lower=True)
    return -(white**2).sum(0) / 2 - jnp.log(jnp.diagonal(factor)).sum()


@program(MATRIX, VECTOR)
def normal_density_with_each_rows_covariance(a, x):
    factor = jnp.linalg.cholesky(definite(a))
    white = jax.lax.linalg.triangular_solve(factor, x[..., None], left_side=True, lower=True)
    log = jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    return -(white**2).sum((-2, -1)) / 2 - log


@program(SHARED, VECTOR)
def cholesky_solve_with_a_shared_matrix(a, b):
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(definite(a)), b.T).T


@program(SHARED, VECTOR)
def lu_solve_with_a_shared_matrix(a, b):
    return jax.scipy.linalg.lu_solve(jax.scipy.linalg.lu_factor(definite(a)), b.T).T


@program(MATRIX)
def qr_decomposition(a):
    q, r = jnp.linalg.qr(definite(a))
    return q, r


@program(MATRIX)
def nearest_rotation(a):
    u, _, v = jnp.linalg.svd(a)
    sign = jnp.sign(jnp.linalg.det(u @ v))
    return u.at[..., -1].multiply(sign[..., None], unique_indices=True) @ v


@program(MATRIX)
def eigenvalues(a):
    values, vectors = jnp.linalg.eigh(definite(a))
    return values, vectors**2


@program(rows(5, 2), rows(5, seed=1))
def least_squares(a, b):
    return jax.vmap(lambda a, b: jnp.linalg.lstsq(a, b)[0])(a, b)


@program(rows(4, 2))
def pseudo_inverse(a):
    return jnp.linalg.pinv(a)


@program(MATRIX)
def matrix_exponential(a):
    return jax.scipy.linalg.expm(a / 4)


@program(positive(6), rows(6, seed=1))
def polynomial_fit(x, y):
    powers = x[..., None] ** jnp.arange(3)
    gram = jnp.swapaxes(powers, 1, 2) @ powers + 1e-2 * jnp.eye(3)
    weight = jnp.linalg.solve(gram, jnp.swapaxes(powers, 1, 2) @ y[..., None])[..., 0]
    return weight, jax.vmap(jnp.polyval)(weight[:, ::-1], x)


@program(rows(3, 6), rows(6, seed=1))
def padded_tridiagonal_system(diagonals, b):
    lower, diagonal, upper = diagonals[:, 0], 4 + diagonals[:, 1] ** 2, diagonals[:, 2]
    return jax.lax.linalg.tridiagonal_solve(
        lower.at[:, 0].set(0.0), diagonal, upper.at[:, -1].set(0.0), b[..., None]
    )[..., 0]
