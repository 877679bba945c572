"""Every public function that draws, every primitive that holds programs, and a new primitive."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array
from fuzz.operations import noise
from fuzz.operations.registry import installed_primitives
from jax.extend.core import Primitive
from jax.extend.core.primitives import closed_call_p
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType
from oracle import assert_same, loop, value_and_vjp
from probing import refusal

import tdjax
from tdjax.core.jaxpr import all_equations, bind
from tdjax.core.opened import open_program
from tdjax.costs.reading import work_of
from tdjax.independence.rules.elementwise import elementwise
from tdjax.independence.rules.rule import (
    Cost,
    known_primitives,
    register,
    traits_of,
    unregister,
)

BATCH, TIME = 3, 3
X = array(BATCH, TIME, 3)
MASK = np.array([[True, True, True], [True, True, False], [True, False, False]])


@pytest.fixture(autouse=True)
def free_promotion():
    """Steps here are written as users write them."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


# --- jax.random -------------------------------------------------------------------------------

STEP_KEYS = jax.random.split(jax.random.key(1), TIME)
ROW_KEYS = jax.random.split(jax.random.key(2), (BATCH, TIME))


def test_every_public_function_of_jax_random_has_arguments():
    public = {name for name in dir(jax.random) if not name.startswith("_")}
    known = noise.DRAWS.keys() | noise.KEYS.keys() | noise.NO_OPERATIONS
    assert public - known == set()


def drawing(name):
    """Return a step that calls a public function of `jax.random` with a key, beside its rows."""
    code = noise.call(name, k="key", s="x.shape", p="(jnp.abs(x) + 0.5)", n="2", l="x")
    function = eval(f"lambda key, x: {code}", {"jax": jax, "jnp": jnp})

    def step(key, x):
        drawn = function(key, x)
        if jnp.issubdtype(drawn.dtype, jax.dtypes.prng_key):
            drawn = jax.random.key_data(drawn)
        return x, drawn

    return step


PUBLIC = sorted(name for name in noise.DRAWS | noise.KEYS if hasattr(jax.random, name))
KEYS = {
    "one key": (jax.random.key(0), None),
    "a key a step": (STEP_KEYS, 0),
    "a key a row": (ROW_KEYS, 1),
}
OF_KEYS = {"split", "fold_in", "clone", "key_data", "wrap_key_data", "key", "PRNGKey"}
"""Functions that make no noise: what they make of one key is the same for all rows."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_drawn_is_proven_only_if_it_is_the_loops(name):
    step, proven = jax.jit(drawing(name)), set()
    steps = {"one key": step, "a key a step": step, "a key a row": jax.jit(jax.vmap(step))}
    for whose, (keys, axis) in KEYS.items():
        if refusal(steps[whose], keys, X, in_axes=(axis, 1)) is None:
            proven.add(whose)

    def both(x):
        for whose in sorted(proven):
            keys, axis = KEYS[whose]
            options = {"in_axes": (axis, 1), "out_axes": 0}
            folded = tdjax.time_distributed(steps[whose], **options, strategy="fold")
            yield folded(keys, x), loop(steps[whose], (keys, x), **options)

    for actual, expected in jax.jit(lambda x: list(both(x)))(X):
        assert_same(actual, expected)
    assert "a key a row" in proven
    assert name in OF_KEYS or "one key" not in proven


# --- primitives that hold programs ------------------------------------------------------------

WEIGHT = array(3, 3, seed=4)


def twice(x):
    return jnp.sin(x) * 2


@jax.custom_jvp
def with_jvp(x):
    return jnp.sin(x)


with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), tangents[0] * 2))


@jax.custom_vjp
def with_vjp(x):
    return jnp.sin(x)


with_vjp.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


def window(x):
    return jax.lax.reduce_window(x, 0.0, lambda p, q: p + q + p * q, (1, 2), (1, 1), "VALID")


def closed_call(x):
    called = jax.make_jaxpr(twice)(x)
    eqn = called.eqns[0]
    return bind(eqn.replace(primitive=closed_call_p, params={"call_jaxpr": called}), [x])[0]


def solve(x):
    return jax.lax.custom_linear_solve(lambda z: z * 2, x, lambda _, b: b / 2, symmetric=True)


HOLDING = {
    "jit": jax.jit(twice),
    "checkpoint": jax.checkpoint(lambda x: jnp.tanh(x @ WEIGHT)),
    "closed_call": closed_call,
    "custom_jvp_call": with_jvp,
    "custom_vjp_call": with_vjp,
    "custom_linear_solve": solve,
    "cond": lambda x: jax.lax.cond(WEIGHT.sum() > 0, twice, jnp.cos, x),
    "switch": lambda x: jax.lax.switch(jnp.int32(1), [twice, jnp.cos, jnp.tanh], x),
    "scan": lambda x: jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), c), x, WEIGHT[None])[1][0],
    "map_over_rows": lambda x: jax.lax.map(twice, x),
    "while": lambda x: jax.lax.stop_gradient(
        jax.lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, twice(c[1])), (0, x))[1]
    ),
    "fori": lambda x: jax.lax.fori_loop(0, 2, lambda _, c: twice(c), x),
    "reduce": lambda x: jax.lax.reduce(
        jax.lax.stop_gradient(x), 0.0, lambda p, q: p + q + p * q, (1,)
    ),
    "reduce_window": lambda x: window(jax.lax.stop_gradient(x)),
    "scatter": lambda x: jax.lax.stop_gradient(x).at[:, 1].apply(jnp.sin),
    "scatter_add": lambda x: x.at[:, jnp.array([0, 2])].add(1.0),
    "solve": lambda x: jnp.linalg.solve(x[:, :, None] * x[:, None] + 3 * jnp.eye(3), x[..., None]),
    "inverse": lambda x: jnp.linalg.inv(x[:, :, None] * x[:, None] + 3 * jnp.eye(3)),
    "associative_scan": lambda x: jax.lax.associative_scan(jnp.maximum, x, axis=1),
    "time_distributed": lambda x: tdjax.time_distributed(twice, strategy="map")(x[..., None]),
}


def beside_a_convolution(function):
    """Return a step that convolves before a function and after it, on one row's own values."""
    kernel = array(2, 1, 1, seed=9)

    def convolved(x):
        flat = x.reshape(x.shape[0], -1, 1)
        numbers = ("NWC", "WIO", "NWC")
        return jax.lax.conv_general_dilated(flat, kernel, (1,), "SAME", dimension_numbers=numbers)

    def step(x):
        return convolved(function(convolved(x)[..., 0])), function(x)

    return step


@pytest.mark.parametrize("name", HOLDING)
def test_what_holds_programs_runs_in_blocks_beside_a_convolution(name):
    step = beside_a_convolution(HOLDING[name])
    strategies = [tdjax.Fold(chunk_size=2), "map", tdjax.Packed(chunk_size=2)]

    def answers(x):
        runs = [
            tdjax.time_distributed(step, out_axes=0, strategy=strategy) for strategy in strategies
        ]
        yield value_and_vjp(lambda x: loop(step, (x,), 1, 0, mask=MASK), (x,))
        yield from (value_and_vjp(functools.partial(run, mask=MASK), (x,)) for run in runs)

    expected, *others = jax.jit(lambda x: list(answers(x)))(X)
    for actual in others:
        assert_same(actual, expected, scale=40)


def holds_programs(eqn):
    values = jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda v: hasattr(v, "eqns"))
    return any(hasattr(value, "eqns") for value in values)


def test_all_primitives_of_the_table_that_hold_programs_are_among_them():
    installed, seen = installed_primitives(), {"call"}
    for function in HOLDING.values():
        trace = jax.make_jaxpr(function)(X[:, 0])
        seen |= {eqn.primitive.name for eqn in all_equations(trace) if holds_programs(eqn)}
    nested = {
        name
        for name in known_primitives()
        if name in installed and traits_of(installed[name]).nested is not None
    }
    assert nested - seen == set()


# --- what the table has not -------------------------------------------------------------------

MISSING = {
    "after_all", "all_to_all", "axis_index", "create_token", "custom_lin", "empty2", "get",
    "ppermute", "ragged_all_to_all", "rng_uniform", "select_and_scatter", "stage", "swap",
}  # fmt: skip
"""Primitives that prove nothing: tokens, references, devices, and what other primitives hold."""
ONLY_IN = {(0, 10): {"dce_sink"}}


def test_the_table_is_complete_but_for_these():
    """A new JAX shows here what is new: write a rule, or add a name to the list."""
    installed = installed_primitives().keys()
    missing = MISSING | ONLY_IN.get(jax.__version_info__[:2], set())
    assert installed - set(known_primitives()) - missing == set()
    assert missing - installed == set()
    assert MISSING & set(known_primitives()) == set()


# --- a new primitive --------------------------------------------------------------------------

toy_p = Primitive("toy")
toy_p.def_impl(lambda x: jnp.sin(x) * 2)
toy_p.def_abstract_eval(lambda x: x)
mlir.register_lowering(toy_p, mlir.lower_fun(lambda x: jnp.sin(x) * 2, multiple_results=False))
ad.defjvp(toy_p, lambda tangent, x: tangent * jnp.cos(x) * 2)
batching.defvectorized(toy_p)


def toy(x):
    return toy_p.bind(x)


@pytest.fixture
def known_toy():
    """Teach tdjax the primitive, in one line."""
    register("toy", rows=elementwise, cost=Cost.SLOW)
    yield
    unregister("toy")


def toy_layer(x):
    return toy(x @ WEIGHT) + x


def test_a_primitive_without_a_line_is_refused():
    assert "`toy`" in refusal(toy_layer, X)


@pytest.mark.parametrize(
    "strategy", ["fold", tdjax.Fold(chunk_size=2), tdjax.Packed(chunk_size=2)], ids=str
)
def test_a_primitive_with_a_line_is_proven_with_gradients(known_toy, strategy):
    mask = MASK if isinstance(strategy, tdjax.Packed) else None
    over_time = tdjax.time_distributed(toy_layer, out_axes=0, strategy=strategy)
    actual = value_and_vjp(functools.partial(over_time, mask=mask), (X,))
    expected = value_and_vjp(lambda x: loop(toy_layer, (x,), 1, 0, mask=mask), (X,))
    assert_same(actual, expected, scale=20)


def test_the_line_says_what_a_primitive_costs(known_toy):
    def work(function):
        program = open_program(jax.make_jaxpr(function)(X[:, 0]).jaxpr)
        return work_of(program, BATCH, [True])

    assert work(toy) == work(jnp.sin)
    assert work(toy).transcendentals > work(jnp.abs).transcendentals
    unregister("toy")
    register("toy", rows=elementwise)
    assert work(toy) == work(jnp.abs)


def test_a_primitive_is_brought_to_blocks_of_an_explicit_mesh(known_toy):
    mesh = jax.make_mesh((3,), ("data",), axis_types=(AxisType.Explicit,))
    placed = jax.device_put(WEIGHT, jax.NamedSharding(mesh, jax.P()))
    x = jax.device_put(X, jax.NamedSharding(mesh, jax.P("data")))

    def step(x):
        return toy(x @ placed)

    with jax.set_mesh(mesh):
        actual = jax.jit(tdjax.time_distributed(step, out_axes=1, strategy="fold"))(x)
    expected = loop(lambda x: jnp.sin(x @ WEIGHT) * 2, (X,))
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-5, atol=1e-5)


class Toy(nn.Module):
    """A layer that keeps, as state, the primitive of its weights."""

    @nn.compact
    def __call__(self, x):
        weight = self.param("weight", nn.initializers.ones, (x.shape[-1],))
        seen = self.variable("state", "seen", lambda: jnp.zeros_like(weight))
        if not self.is_initializing():
            seen.value = toy(weight)
        return toy(x * weight)


def test_the_effects_of_a_layer_are_followed_through_a_primitive(known_toy):
    layer = tdjax.linen.TimeDistributed(Toy(), strategy="fold")
    variables = layer.init(jax.random.key(0), X)
    y, state = layer.apply(variables, X, mutable=["state"])
    np.testing.assert_allclose(y, np.sin(X) * 2, rtol=1e-5, atol=1e-5)
    (seen,) = jax.tree.leaves(state)
    np.testing.assert_allclose(seen, np.full(3, np.sin(1.0) * 2), rtol=1e-5)
