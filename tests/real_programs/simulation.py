"""Filters, differential equations, and solvers that go round."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.experimental.ode import odeint

from real_programs.book import needless, positive, program, rows, weights

STATE = rows(3)


@program(STATE, rows(3, 3, seed=1), rows(2, seed=2), weights(3, 3), weights(2, 3))
def kalman_filter(mean, root, seen, move, look):
    covariance = root @ jnp.swapaxes(root, 1, 2) + jnp.eye(3)
    mean, covariance = mean @ move.T, move @ covariance @ move.T + 0.1 * jnp.eye(3)
    residual = seen - mean @ look.T
    innovation = look @ covariance @ look.T + 0.1 * jnp.eye(2)
    gain = jnp.swapaxes(jnp.linalg.solve(innovation, look @ covariance), 1, 2)
    mean = mean + jnp.einsum("bij,bj->bi", gain, residual)
    covariance = (jnp.eye(3) - gain @ look) @ covariance
    return mean, covariance, jnp.linalg.slogdet(innovation)[1]


@program(rows(5, 2), rows(5, seed=1), rows(2, seed=2))
def particle_filter(particles, noise, seen):
    """Weigh particles, and draw those that go on at even distances."""
    log = -((particles - seen[:, None]) ** 2).sum(-1)
    total = jnp.cumsum(jax.nn.softmax(log, -1), -1)
    places = (jnp.arange(5) + 0.5) / 5
    chosen = jax.vmap(jnp.searchsorted, (0, None))(total, places)
    batch = jnp.arange(particles.shape[0])[:, None]
    return particles[batch, jnp.minimum(chosen, 4)] + 0.1 * noise[..., None]


@program(STATE, weights(3, 3))
def runge_kutta(x, kernel):
    def slope(x):
        return jnp.tanh(x @ kernel) - x

    def move(_, x):
        a = slope(x)
        b = slope(x + 0.05 * a)
        c = slope(x + 0.05 * b)
        d = slope(x + 0.1 * c)
        return x + 0.1 / 6 * (a + 2 * b + 2 * c + d)

    return jax.lax.fori_loop(0, 4, move, x)


@program(STATE, weights(3, 3))
def adaptive_ode(x, kernel):
    def solve(start):
        return odeint(lambda y, t: jnp.tanh(kernel @ y) - y, start, jnp.linspace(0.0, 1.0, 3))

    return jax.vmap(solve)(x)


@program(rows(3, 3), rows(3, seed=1))
def conjugate_gradients(a, b):
    def solve(a, b):
        matrix = a @ a.T + 3 * jnp.eye(3)
        return jax.scipy.sparse.linalg.cg(lambda v: matrix @ v, b, maxiter=5)[0]

    return jax.vmap(solve)(a, b)


@program(positive())
def newton_until_each_row_is_done(x):
    def root(x):
        def unfinished(carry):
            return jnp.abs(carry * carry - x) > 1e-3

        return jax.lax.while_loop(unfinished, lambda y: (y + x / y) / 2, jnp.ones_like(x))

    return jax.vmap(root)(jax.lax.stop_gradient(x))


@program(rows(4, 5))
def optimal_transport(cost):
    def scale(carry, _):
        f, g = carry
        f = -jax.nn.logsumexp(g[:, None] - cost, 2)
        return (f, -jax.nn.logsumexp(f[:, :, None] - cost, 1)), None

    start = jnp.zeros(cost.shape[:2]), jnp.zeros((cost.shape[0], 5))
    (f, g), _ = jax.lax.scan(scale, start, None, length=4)
    return jnp.exp(f[:, :, None] + g[:, None] - cost)


@program(rows(6, 2), rows(6, seed=1), weights(2))
def inner_gradient_steps(x, y, start):
    """Adapt weights to each row by gradient descent, as meta-learning does."""

    def adapted(x, y):
        def loss(w):
            return ((x @ w - y) ** 2).mean()

        w = start
        for _ in range(2):
            w = w - 0.1 * jax.grad(loss)(w)
        return w, loss(w)

    return jax.vmap(adapted)(x, y)


@program(rows(4), weights(4, 4), weights(4, seed=2))
def energy_and_its_forces(x, kernel, read):
    def energy(x):
        return (jnp.tanh(x @ kernel) @ read).sum()

    return jax.grad(energy)(x), jax.vmap(jax.hessian(energy))(x)


@program(
    rows(4),
    expected=needless(
        "blocks of rows make another program of another number of rows, which says nothing of one "
        "row alone (write `jax.vmap`: a strategy takes rows in blocks)"
    ),
)
def many_rows_at_a_time(x):
    return jax.lax.map(lambda row: jnp.tanh(row) * row.sum(), x, batch_size=2)


@program(rows(4))
def row_after_row(x):
    return jax.lax.map(lambda row: jnp.sort(row) / (1 + jnp.abs(row).sum()), x)


def ask_the_host(x, method):
    def host(x):
        return x * 2

    return jax.pure_callback(host, jax.typeof(x), jax.lax.stop_gradient(x), vmap_method=method)


@program(
    rows(4),
    expected=needless("nothing is known of a function on the host (write `jax.vmap` of the call)"),
)
def asks_the_host(x):
    return ask_the_host(x, "broadcast_all")


@program(rows(4))
def asks_the_host_of_each_row(x):
    return jax.vmap(lambda row: ask_the_host(row, "broadcast_all"))(x)


@program(rows(4))
def asks_the_host_of_one_row_after_the_other(x):
    return jax.vmap(lambda row: ask_the_host(row, "sequential"))(x)
