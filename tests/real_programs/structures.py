"""Sorting, counting, graphs, point clouds, trees."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from real_programs.book import Shared, array, ids, lengths, program, rows, weights

X = rows(6)
NODES = rows(5, 4)
SENDERS, RECEIVERS = jnp.array([0, 1, 2, 3, 4, 0]), jnp.array([1, 2, 3, 4, 0, 2])


@program(X)
def sorted_and_ranked(x):
    order = jnp.argsort(x, -1)
    return jnp.sort(x, -1), order, jnp.argsort(order, -1), jnp.take_along_axis(x, order, -1)


@program(X)
def quantiles(x):
    return (
        jnp.median(x, -1),
        jnp.quantile(x, jnp.array([0.1, 0.9]), -1).T,
        jnp.percentile(x, 30, -1),
    )


@program(X)
def argmax_scattered(x):
    return jnp.zeros_like(x).at[jnp.arange(x.shape[0]), x.argmax(-1)].set(1.0)


@program(X, weights(8))
def searched_in_a_shared_table(x, table):
    return jnp.searchsorted(jnp.sort(table), x), jnp.digitize(x, jnp.linspace(-2, 2, 5))


@program(X, rows(3, seed=1))
def searched_in_itself(x, values):
    return jax.vmap(jnp.searchsorted)(jnp.sort(x, -1), values)


@program(X)
def histogram_of_each_row(x):
    return jax.vmap(lambda row: jnp.histogram(row, 4, (-2.0, 2.0))[0])(x)


@program(ids(7, below=4))
def distinct_values(x):
    return jax.vmap(lambda row: jnp.unique(row, size=4, fill_value=-1))(x)


@program(rows(7, 3), lengths(7))
def reversed_up_to_its_length(x, lengths):
    places = (lengths[:, None] - 1 - jnp.arange(7)) % 7
    return jnp.take_along_axis(x, places[..., None], 1)


@program(rows(7, 3), ids(4, below=7))
def written_along_an_axis(x, where):
    zeros = jnp.zeros((x.shape[0], 7))
    return jnp.put_along_axis(zeros, where, 1.0, axis=1, inplace=False)


@program(rows(4, 4))
def entries_by_grids(x):
    batch, line, column = jnp.indices((x.shape[0], 2, 2))
    return x[batch, line + 1, column]


@program(rows(7, 3))
def entries_by_open_grids(x):
    batch, entry = jnp.ogrid[: x.shape[0], :4]
    return x[batch, entry]


# --- graphs and points ------------------------------------------------------------------------


@program(NODES, weights(8, 4))
def messages_along_shared_edges(x, kernel):
    messages = jnp.concatenate([x[:, SENDERS], x[:, RECEIVERS]], -1) @ kernel
    return jnp.zeros_like(x).at[:, RECEIVERS].add(jnp.tanh(messages))


@program(NODES, ids(6, below=5), ids(6, below=5, seed=1))
def messages_along_listed_edges(x, senders, receivers):
    batch = jnp.arange(x.shape[0])[:, None]
    return jnp.zeros_like(x).at[batch, receivers].add(jnp.tanh(x[batch, senders]))


@program(rows(6, 2))
def farthest_points(x):
    batch = jnp.arange(x.shape[0])

    def choose(carry, _):
        distance, last = carry
        nearer = ((x - x[batch, last][:, None]) ** 2).sum(-1)
        distance = jnp.minimum(distance, nearer)
        return (distance, distance.argmax(-1)), last

    start = jnp.full(x.shape[:2], jnp.inf), jnp.zeros(x.shape[0], jnp.int32)
    return jax.lax.scan(choose, start, None, length=3)[1].T


@program(rows(6, 3))
def splatted_to_a_grid(points):
    cells = jnp.clip(jnp.floor(points[..., :2] * 2 + 3), 0, 5).astype(jnp.int32)
    batch = jnp.arange(points.shape[0])[:, None]
    grid = jnp.zeros((points.shape[0], 6, 6))
    return grid.at[batch, cells[..., 0], cells[..., 1]].add(points[..., 2])


@program(rows(4), Shared(array(7)), Shared(jnp.array([0, 1, 2, 3, 0, 1, 2])))
def decision_tree(x, thresholds, features):
    node = jnp.zeros(x.shape[0], jnp.int32)
    batch = jnp.arange(x.shape[0])
    for _ in range(2):
        node = 2 * node + 1 + (x[batch, features[node]] > thresholds[node])
    return thresholds[node]
