"""What is remembered between calls belongs to the program, not to the function or its arrays."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tdjax import Fold, Vmap, time_distributed
from tdjax.core.jaxpr import scan_counts

STRATEGIES = [
    "fold",
    Fold(chunk_size=3),
    Fold(chunk_size=3, unroll=True),
    "map",
    Vmap(chunk_size=2),
]


@pytest.fixture
def x():
    return jax.random.normal(jax.random.key(0), (4, 5, 3))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_functions_with_one_program_keep_their_own_outputs(strategy, x):
    first = time_distributed(lambda x: {"a": x * 2.0}, strategy=strategy)(x)
    second = time_distributed(lambda x: {"b": x * 2.0}, strategy=strategy)(x)
    assert (list(first), list(second)) == (["a"], ["b"])


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_closed_over_arrays_are_those_of_the_call(strategy, x):
    held = {"weights": jnp.ones(()), "table": np.ones((), np.float32)}
    double = time_distributed(lambda x: x * held["weights"] * held["table"], strategy=strategy)
    np.testing.assert_array_equal(double(x), x)
    held["weights"] = jnp.full((), 3.0)
    held["table"][...] = 2.0
    np.testing.assert_allclose(double(x), 6 * x, rtol=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_arrays_inside_an_inner_jit_are_those_of_the_call(strategy, x):
    held = np.ones((3,), np.float32)

    def step(x):
        return jax.jit(lambda x: x * jnp.asarray(held)[None])(x)

    scaled = time_distributed(step, strategy=strategy)
    np.testing.assert_array_equal(scaled(x), x)
    held[:] = 5.0
    np.testing.assert_allclose(scaled(x), 5 * x, rtol=1e-6)


LEAVING = [*STRATEGIES, "vmap", "auto"]


def call_and_leave(strategy):
    """Make two calls, and return references to their arrays that do not keep them alive.

    Nothing is remembered of their program: no two strategies have weights of one size.
    """
    x, weights = jnp.ones((4, 5, 3)), jnp.full((3, 70 + LEAVING.index(strategy)), 2.0)
    mask = jnp.ones((4, 5), bool)
    dense = time_distributed(lambda x: jnp.tanh(x @ weights), strategy=strategy)
    dense(x)
    dense(x, mask=mask)
    return [weakref.ref(array) for array in (x, weights, mask)]


@pytest.mark.parametrize("strategy", LEAVING, ids=str)
def test_no_argument_and_no_weight_is_kept_alive(strategy):
    references = call_and_leave(strategy)
    jax.clear_caches()  # JAX's own memory may hold them; ours may not
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]


def test_scan_says_how_its_inputs_are_meant():
    def turn(carry, y, weights):
        return (carry[0] + y @ weights, carry[1] * 2), carry[0]

    def loop(carry, weights):
        return jax.lax.scan(lambda c, y: turn(c, y, weights), carry, jnp.ones((5, 3)))

    program = jax.make_jaxpr(loop)((jnp.zeros(3), jnp.zeros(())), jnp.ones((3, 3)))
    (eqn,) = (e for e in program.jaxpr.eqns if e.primitive.name == "scan")
    assert scan_counts(eqn) == (1, 2)
