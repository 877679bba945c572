"""Operations that open only when they are compiled, roots, and bits read as other numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from all_orders import assert_is_the_loop, doubles
from jax.experimental import hijax
from probing import refusal

X = doubles(3, 2, 4)
SINGLE = jnp.asarray(X, jnp.float32)
TABLE = np.sort(doubles(5))


@pytest.fixture(autouse=True)
def free_promotion():
    """Steps here are written as users write them."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def newton(mixes, x):
    def solve(f, y):
        return jax.lax.fori_loop(0, 20, lambda _, y: y - f(y) / (3 * y * y + 1), y)

    def solve_tangents(linear, v):
        found = v / linear(jnp.ones_like(v))
        return found + found.mean(0) if mixes else found

    return jax.lax.custom_root(lambda y: y**3 + y - x, jnp.zeros_like(x), solve, solve_tangents)


PROVEN = {
    "search in a shared table": lambda x: (jnp.searchsorted(TABLE, x), x),
    "search in each row": lambda x: (jax.vmap(jnp.searchsorted)(jnp.sort(x), x), x),
    "search by sorting": jax.vmap(
        lambda r: jnp.searchsorted(jnp.sort(r), r, method="sort") * r.sum()
    ),
    "places that are not zero": jax.vmap(lambda r: r[jnp.nonzero(r > 0, size=3)[0]]),
    "a root": functools.partial(newton, False),
}


@pytest.mark.parametrize("name", PROVEN)
def test_a_high_level_operation_is_the_loop(name):
    order = 2 if name == "a root" else 1
    assert_is_the_loop(PROVEN[name], X, strategies=["fold"], order=order)


def test_mantissas_and_exponents_of_rows_are_the_loops():
    def step(x):
        mantissa, exponent = jnp.frexp(x)
        return mantissa, exponent, jnp.ldexp(x, exponent)

    assert_is_the_loop(step, X, strategies=["fold"], order=0)


REFUSED = {
    "search in a row of the batch": lambda x: jnp.searchsorted(jnp.sort(x[0]), x),
    "search in the batch": lambda x: jnp.searchsorted(x[:, 0], x),
    "rows that are not zero": lambda x: jnp.nonzero(x[:, 0] > 0, size=3)[0],
    "as many places as rows": lambda x: jax.vmap(
        lambda r: jnp.nonzero(r > 0, size=x.shape[0])[0][:1]
    )(x),
    "a root whose tangents mix": functools.partial(newton, True),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_high_level_operation_that_mixes_rows_is_refused(name):
    assert refusal(REFUSED[name], SINGLE) is not None


class Own(getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive):
    """An operation of a user's: one that its parameters do not tell from another."""

    def __init__(self, function, x, result):
        self.in_avals, self.out_aval = (jax.typeof(x),), jax.typeof(result)
        self.params, self.function = {}, function
        super().__init__()

    def expand(self, x):
        return self.function(x)


def own(function, dtype):
    def step(x):
        return x, Own(lambda x: function(x).astype(dtype), x, jnp.zeros(x.shape, dtype))(x)

    return step


def test_an_operation_of_somebodys_is_followed_where_it_has_no_derivative():
    apart = own(lambda x: jnp.argsort(x, -1), jnp.int32)
    assert_is_the_loop(apart, SINGLE, strategies=["fold"], order=0)
    assert refusal(own(lambda x: jnp.argsort(x, 0), jnp.int32), SINGLE) is not None


def test_an_operation_of_somebodys_that_may_be_differentiated_is_refused():
    assert "HiPrim" in refusal(own(jnp.sin, jnp.float32), SINGLE)


def test_a_loop_over_rows_does_not_hide_the_size_of_the_batch_in_an_operation():
    def step(x):
        rows = x.shape[0]

        def one(row):
            return Own(lambda r: (r * rows).astype(jnp.int32), row, row.astype(jnp.int32))(row)

        return jax.lax.map(one, x)

    assert refusal(step, SINGLE) is not None


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.int8])
def test_bits_of_rows_are_read_as_numbers_of_another_width(dtype):
    def step(x):
        bits = jax.lax.bitcast_convert_type(x, dtype)
        return bits, jax.lax.bitcast_convert_type(bits, jnp.float32)

    assert_is_the_loop(step, SINGLE, strategies=["fold"], order=0)


def test_rows_are_not_the_parts_of_a_number():
    def step(x):
        return jax.lax.bitcast_convert_type(x.astype(jnp.int16).reshape(-1, 2), jnp.int32)

    def pairs_of_rows(x):
        columns = x.astype(jnp.int8).T  # rows last, which are as many as an int has bytes
        return jax.lax.bitcast_convert_type(columns, jnp.int32)

    assert refusal(step, SINGLE) is None
    assert refusal(pairs_of_rows, jnp.ones((4, 2, 3), jnp.float32)) is not None


def test_a_composite_operation_is_the_program_that_it_stands_for():
    """JAX neither maps nor differentiates one."""

    def composite(mixes):
        def twice(x):
            return jnp.sin(x) * 2 + (x.sum(0) if mixes else 0)

        return jax.lax.composite(twice, "test.twice")

    assert refusal(composite(False), SINGLE) is None
    assert "`reduce_sum`" in refusal(composite(True), SINGLE)
    assert_is_the_loop(composite(False), X, order=0)
    assert_is_the_loop(lambda x, s: composite(False)(x * s), X, doubles(2), in_axes=(1, 0), order=0)
