"""What is remembered between calls belongs to the program, not to the function or its arrays."""

import contextlib
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tdjax import Fold, Packed, Vmap, time_distributed
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


def updated(name):
    """Return a context manager that sets what has none of its own."""

    @contextlib.contextmanager
    def setting(value):
        before = getattr(jax.config, name)
        jax.config.update(name, value)
        try:
            yield
        finally:
            jax.config.update(name, before)

    return setting


def drawn(x):
    return x + jax.random.uniform(jax.random.key(1), (1, 3), x.dtype)


SETTINGS = {
    "threefry_partitionable": (jax.threefry_partitionable, (True, False), drawn),
    "default_prng_impl": (jax.default_prng_impl, ("threefry2x32", "rbg"), drawn),
    "random_seed_offset": (updated("jax_random_seed_offset"), (0, 7), drawn),
    "enable_x64": (updated("jax_enable_x64"), (False, True), lambda x: x * jnp.float64(1 / 3)),
    "default_matmul_precision": (
        jax.default_matmul_precision,
        (None, "bfloat16", "float32"),
        lambda x: x @ jnp.full((3, 3), 1 / 3, x.dtype),
    ),
    "numpy_dtype_promotion": (
        jax.numpy_dtype_promotion,
        ("standard", "strict"),
        lambda x: x * jnp.arange(3)[None],
    ),
    "numpy_rank_promotion": (
        jax.numpy_rank_promotion,
        ("allow", "raise"),
        lambda x: x * jnp.ones(3, x.dtype),
    ),
    "debug_nans": (jax.debug_nans, (False, True), jnp.log),
    "debug_infs": (jax.debug_infs, (False, True), lambda x: x / jnp.zeros_like(x)),
    "softmax_custom_jvp": (
        updated("jax_softmax_custom_jvp"),
        (True, False),
        lambda x: jax.grad(lambda x: jnp.square(jax.nn.softmax(x)).sum())(x),
    ),
    "disable_jit": (jax.disable_jit, (False, True), drawn),
    "legacy_prng_key": (
        jax.legacy_prng_key,
        ("allow", "error"),
        lambda x: x + jax.random.normal(jax.random.PRNGKey(1), (1, 3), x.dtype),
    ),
}
KEPT = [*STRATEGIES, "unroll", "vmap", "auto", "packed", Packed(chunk_size=3)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", KEPT, ids=str)
@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_jax_are_those_of_the_call(name, strategy, x):
    setting, values, step = SETTINGS[name]
    mask = jnp.ones((4, 5), bool) if "acked" in str(strategy) else None
    wrapped = time_distributed(step, strategy=strategy)

    def outcome(run):
        try:
            return np.asarray(run())
        except Exception as error:
            return type(error)

    for value in (*values, values[0]):
        with setting(value):
            wanted = outcome(lambda: jnp.stack([step(x[:, t]) for t in range(5)], 1))
            found = outcome(lambda: wrapped(x, mask=mask))
        if isinstance(wanted, type):
            assert found is wanted
        else:
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
            assert found.dtype == wanted.dtype


def test_draws_of_keys_of_steps_follow_a_setting_between_calls():
    keys = jax.random.split(jax.random.key(3), 5)
    for strategy in ("map", "unroll", "auto", "vmap"):
        draw = time_distributed(
            lambda key: jax.random.uniform(key, (4,)), in_axes=0, strategy=strategy
        )
        for value in (True, False):
            with jax.threefry_partitionable(value):
                wanted = jnp.stack([jax.random.uniform(key, (4,)) for key in keys], 1)
                np.testing.assert_array_equal(draw(keys), wanted)


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
