"""Rows that read and write themselves by their numbers, and rows that are told apart by them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from casebook import array, integers
from oracle import assert_same, loop, value_and_vjp
from probing import refusal

import tdjax
from tdjax.independence import known
from tdjax.independence.two_traces import Atom, Equation

B, T, D = 4, 3, 6
X, DEEP = array(B, T, D), array(B, T, 5, D)
SQUARE = array(B, T, B)
PLACE, PLACES = integers(B, T, below=7) - 2, integers(B, T, 3, below=5)
TABLE = array(40, D)
KEY = jax.random.key(0)


def number(x, size=None):
    return jnp.arange(x.shape[0] if size is None else size)


def own(axis=0):
    """Return the numbers of an array's rows, with axes for its other axes."""
    return lambda x: jax.lax.broadcasted_iota(jnp.int32, x.shape, axis)


def windows(x, i):
    numbers = jax.lax.GatherDimensionNumbers((1,), (0,), (0, 1))
    starts = jnp.stack([number(x), i], -1)
    return jax.lax.gather(x, starts, numbers, (1, 2), mode="clip")


def in_a_scan(x, i):
    rows = number(x)

    def turn(x, k):
        return x.at[rows, k].add(jnp.sin(x[rows, i])), x[rows, k]

    return jax.lax.scan(turn, x, jnp.arange(3))[0]


def in_a_branch(x, i):
    rows = number(x)
    return jax.lax.cond(i.shape[0] > 0, lambda: x[rows, i] * 2, lambda: x[rows, 0])


def carried_along(x):
    def turn(k, carry):
        rows, x = carry
        return rows, x.at[rows, k].multiply(2.0, unique_indices=True)

    return jax.lax.fori_loop(0, 3, turn, (number(x), x))[1]


@jax.custom_vjp
def chosen(x, i):
    return x[jnp.arange(x.shape[0]), i]


def _chosen_backward(kept, g):
    x, i = kept
    return jnp.zeros_like(x).at[jnp.arange(x.shape[0]), i].add(g * 2), None


chosen.defvjp(lambda x, i: (chosen(x, i), (x, i)), _chosen_backward)


@jax.custom_jvp
def chosen_forward(x, rows):
    return x[rows, 1]


@chosen_forward.defjvp
def _chosen_jvp(primals, tangents):
    x, rows = primals
    return x[rows, 1], tangents[0][rows, 1] * 3


PROVEN = {
    "read": (lambda x, i: x[number(x), i], X, PLACE),
    "read_one_place": (lambda x: x[number(x), 2], X),
    "read_the_last": (lambda x: x[number(x), -1], X),
    "read_several": (lambda x, j: x[number(x)[:, None], j], X, PLACES),
    "read_a_slice": (lambda x, i: x[number(x), :, i], DEEP, PLACE),
    "read_two_places": (lambda x, i: x[number(x), i, i], DEEP, PLACE),
    "read_features": (lambda x, i: x[number(x), i], DEEP, PLACE),
    "rows_second": (lambda x, i: x.T[i, number(x)], X, PLACE),
    "fill": (lambda x, i: x.at[number(x), i + 4].get(mode="fill", fill_value=7.0), X, PLACE),
    "clip": (lambda x, i: x.at[number(x), i + 4].get(mode="clip"), X, PLACE),
    "promise": (lambda x, j: x.at[number(x)[:, None], j].get(mode="promise_in_bounds"), X, PLACES),
    "windows": (windows, X, PLACE),
    "all_of_a_row": (lambda x: (x[number(x)], jnp.take(x, number(x), axis=0)), X),
    "own_order": (lambda x: x[number(x)[:, None], jnp.argsort(x, -1)], X),
    "set": (lambda x, i: x.at[number(x), i].set(1.0), X, PLACE),
    "set_out_of_bounds": (lambda x, i: x.at[number(x), i + 4].set(x[:, 0], mode="drop"), X, PLACE),
    "set_twice": (lambda x: x.at[number(x)[:, None], jnp.array([1, 1])].add(x[:, :2]), X),
    "set_a_slice": (lambda x, i: x.at[number(x), :, i].set(x[:, :, 0]), DEEP, PLACE),
    "set_in_zeros": (lambda x, i: jnp.zeros_like(x).at[number(x), i].set(x[:, 0]), X, PLACE),
    "set_in_rows_that_lie_second": (
        lambda x, i: jnp.zeros((D, x.shape[0])).at[i, number(x)].set(x[:, 0]).T,
        X,
        PLACE,
    ),
    "set_in_merged_rows": (
        lambda x: jnp.zeros(x.shape[0] * 3).at[number(x) * 3 + 1].set(x[:, 0]).reshape(-1, 3),
        X,
    ),
    "add": (lambda x, j: x.at[number(x)[:, None], j].add(x[:, :3]), X, PLACES),
    "subtract": (lambda x, i: x.at[number(x), i].subtract(x[:, 0]), X, PLACE),
    "multiply": (
        lambda x, i: x.at[number(x), i].multiply(x[:, 0], unique_indices=True),
        X,
        PLACE,
    ),
    "divide": (
        lambda x, i: x.at[number(x), i].divide(2.0 + jax.lax.stop_gradient(x[:, 0])),
        X,
        PLACE,
    ),
    "min": (lambda x, i: x.at[number(x), i].min(x[:, 0]), X, PLACE),
    "max": (lambda x, i: x.at[number(x), i].max(x[:, 0]), X, PLACE),
    "power": (lambda x, i: (1 + x**2).at[number(x), i].power(2.0), X, PLACE),
    "promised_order": (
        lambda x, i: x.at[number(x), i].add(1.0, unique_indices=True, indices_are_sorted=True),
        X,
        PLACE,
    ),
    "put_along_axis": (
        lambda x, j: jnp.put_along_axis(x, j, jnp.float32(2), 1, inplace=False),
        X,
        PLACES,
    ),
    "take_along_axis": (
        lambda x, j: (
            jnp.take_along_axis(x, j, 1),
            jnp.take_along_axis(x, j, -1, mode="clip"),
            jnp.take_along_axis(x, jnp.zeros((1, 2), jnp.int32), 1),
        ),
        X,
        PLACES,
    ),
    "take_along_rows_that_are_own": (lambda x: jnp.take_along_axis(x, own()(x), 0), X),
    "iota": (lambda x: x[own()(x), own(1)(x)], X),
    "indices": (lambda x: x[tuple(jnp.indices(x.shape))], X),
    "ogrid": (lambda x: x[tuple(jnp.ogrid[: x.shape[0], :3])], X),
    "mgrid": (lambda x: x[tuple(jnp.mgrid[: x.shape[0], 1:3])], X),
    "meshgrid": (lambda x: x[tuple(jnp.meshgrid(number(x), number(x, 3), indexing="ij"))], X),
    "unraveled": (
        lambda x: x[jnp.unravel_index(number(x, x.size), x.shape)].reshape(x.shape),
        X,
    ),
    "merged": (lambda x: x.reshape(-1)[number(x) * D + 2], X),
    "merged_several": (
        lambda x: x.reshape(-1)[(number(x)[:, None] * D + number(x, 3)).reshape(-1)].reshape(-1, 3),
        X,
    ),
    "numbers_of_beams": (
        lambda x, j: x[(number(x, x.shape[0] * 3) // 3).reshape(-1, 3), j],
        X,
        PLACES,
    ),
    "repeated": (lambda x: x[jnp.repeat(number(x), 2)], X),
    "tiled": (lambda x: x[jnp.tile(number(x), 2)], X),
    "unsigned": (lambda x, i: x[jnp.arange(x.shape[0], dtype=jnp.uint8), i], X, PLACE),
    "vmapped": (lambda x, i: jax.vmap(lambda r, at: x[r, at])(number(x), i), X, PLACE),
    "vmapped_over_features": (
        lambda x, i: jax.vmap(lambda y: y[number(x), i], -1, -1)(x),
        DEEP,
        PLACE % 4,
    ),
    "scan": (in_a_scan, X, PLACE),
    "cond": (in_a_branch, X, PLACE),
    "carried": (carried_along, X),
    "jit": (lambda x, i: jax.jit(lambda x, r, i: x[r, i])(x, number(x), i), X, PLACE),
    "remat": (lambda x, i: jax.checkpoint(lambda x, r: jnp.sin(x[r, i]))(x, number(x)), X, PLACE),
    "gradient": (lambda x, i: jax.grad(lambda x: (x[number(x), i] ** 3).sum())(x), X, PLACE),
    "gradient_of_a_write": (
        lambda x, i: jax.grad(
            lambda x: (x.at[number(x), i].set(x[:, 0], unique_indices=True) ** 2).sum()
        )(x),
        X,
        PLACE % 4 + 1,
    ),
    "custom_vjp": (chosen, X, PLACE),
    "custom_jvp_given_numbers": (lambda x: chosen_forward(x, number(x)), X),
    "always_true": (lambda x: jnp.where((number(x) >= 0)[:, None], x, 0.0), X),
    "the_same_for_all": (
        lambda x: x * (number(x, 2 * x.shape[0]) % 2 + 1).reshape(-1, 2)[:, :1],
        X,
    ),
    "one_place_of_all": (lambda x: x[:, jnp.int32(2)], X),
    "place_of_all": (lambda x, t: x[:, t], X, jnp.int32(2)),
}


@pytest.fixture(autouse=True)
def strict_promotion():
    """Let steps promote as users' do."""
    yield


@pytest.mark.parametrize("name", PROVEN)
def test_rows_that_find_themselves_are_proven(name):
    fun, *args = PROVEN[name]
    axes = tuple(1 if arg.ndim else None for arg in args)
    expected = jax.jit(lambda *args: value_and_vjp(lambda *a: loop(fun, a, axes), args))(*args)
    for strategy in ("fold", tdjax.Fold(chunk_size=5)):
        folded = tdjax.time_distributed(fun, in_axes=axes, strategy=strategy)
        got = jax.jit(lambda *args, folded=folded: value_and_vjp(folded, args))(*args)
        assert_same(got, expected, scale=4)


def test_what_cannot_be_differentiated_is_proven():
    def apply(x, i):
        return x.at[number(x), i].apply(jnp.sin)

    args = X, PLACE
    folded = tdjax.time_distributed(apply, strategy="fold")
    assert_same(folded(*args), loop(apply, args))


STEP, STEPS = jnp.array([2, -1, 9], jnp.int32), jnp.array([[0, 1], [3, 2], [5, -1]], jnp.int32)
FLAG = jnp.array([True, False, True])


def turned(x, t):
    """Write at a place that moves on, in a loop."""
    rows = number(x)

    def turn(x, k):
        return x.at[rows, (t + k) % D].add(x[:, k]), x[:, t]

    return jax.lax.scan(turn, x, jnp.arange(3))


def branched(x, flag):
    """Write in a branch, which not all steps take: a row of another step may not write there."""
    rows = number(x)
    first, second = lambda: x.at[rows, 1].add(x[rows, 2]), lambda: x.at[rows, 3].add(2.0)
    return jax.lax.cond(flag, first, second)


# Rows, what a step gives to all of its own, and a function of both.
PLACES_OF_A_STEP = {
    "read_by_number": (lambda x, t: x[number(x), t], X, STEP),
    "read": (lambda x, t: (x[:, t], jnp.take(x, t, axis=1, mode="fill")), X, STEP),
    "read_several": (lambda x, t: (x[:, t], jnp.take(x, t, axis=1, mode="wrap")), X, STEPS),
    "slice": (lambda x, t: jax.lax.dynamic_slice_in_dim(x, t, 2, 1), X, STEP),
    "update": (lambda x, t: jax.lax.dynamic_update_slice_in_dim(x, x[:, :2] * 2, t, 1), X, STEP),
    "set": (lambda x, t: x.at[:, t].set(x[:, 0]), X, STEP),
    "add": (lambda x, t: x.at[:, t].add(x[:, :2]), X, STEPS),
    "set_deep": (lambda x, t: x.at[:, t, 1].set(x[:, 0, 0]), DEEP, STEP),
    "rows_last": (lambda x, t: (x.T[t], x.T.at[t].set(0.0).T), X, STEP),
    "merged_rows": (
        lambda x, t: jnp.sin(x.reshape(-1, 5, 2)).swapaxes(0, 1)[:, :, t % 2].sum(0).reshape(-1, 3),
        array(B, T, 5 * D),
        STEP,
    ),
    "remat": (lambda x, t: jax.checkpoint(lambda x, t: jnp.sin(x[:, t]))(x, t), X, STEP),
    "gradient": (lambda x, t: jax.grad(lambda x: (x[:, t] ** 3).sum())(x), X, STEP),
    "vmapped": (lambda x, t: jax.vmap(lambda r: r.at[t].set(r[t - 1]))(x), X, STEP),
    "scan": (lambda x, t: turned(x, t)[0], X, STEP),
    "cond": (branched, X, FLAG),
}


@pytest.mark.parametrize("name", PLACES_OF_A_STEP)
def test_a_place_that_a_step_says_is_given_to_its_rows(name):
    fun, *args = PLACES_OF_A_STEP[name]
    expected = jax.jit(lambda *args: value_and_vjp(lambda *a: loop(fun, a, (1, 0)), args))(*args)
    for strategy in ("fold", tdjax.Fold(chunk_size=5)):
        folded = tdjax.time_distributed(fun, in_axes=(1, 0), strategy=strategy)
        got = jax.jit(lambda *args, folded=folded: value_and_vjp(folded, args))(*args)
        assert_same(got, expected, scale=4)


@pytest.mark.parametrize("name", ["read", "add", "scan", "custom_jvp_given_numbers"])
def test_second_derivatives(name):
    fun, x, *rest = PROVEN[name]

    def curvature(run):
        def slope(x):
            return (jax.grad(lambda x: jnp.sin(run(x, *rest)).sum())(x) ** 2).sum()

        return jax.jit(jax.grad(slope))(x)

    folded = tdjax.time_distributed(fun, strategy=tdjax.Fold(chunk_size=5))
    assert_same(curvature(folded), curvature(lambda *args: loop(fun, args)), scale=20)


@pytest.mark.parametrize("name", ["read", "set", "scan", "merged_several", "rows_second"])
def test_a_batch_of_one(name):
    fun, *args = PROVEN[name]
    args = tuple(arg[:1] for arg in args)
    folded = tdjax.time_distributed(fun, strategy="fold")
    assert_same(jax.jit(folded)(*args), loop(fun, args))


NUMBERED = "numbers the rows"
ELSEWHERE = "places in other rows"
COUNTED = "the number of rows"

REFUSED = {
    "the_next_row": ("gather", ELSEWHERE, lambda x: x[(number(x) + 1) % x.shape[0], 0], X),
    "reversed": ("gather", ELSEWHERE, lambda x, i: x[number(x)[::-1], i], X, PLACE),
    "from_the_end": ("gather", ELSEWHERE, lambda x, i: x[x.shape[0] - 1 - number(x), i], X, PLACE),
    "as_in_the_loop_alone": ("gather", ELSEWHERE, lambda x: x[jnp.minimum(number(x), 3), 1], X),
    "of_other_sizes": ("gather", ELSEWHERE, lambda x: x.reshape(-1, 2)[number(x)], X),
    "too_few_bits": (
        "gather",
        ELSEWHERE,
        lambda x: x[jnp.arange(x.shape[0], dtype=jnp.uint8), 1],
        array(200, 2, 2),
    ),
    "diagonal": ("gather", ELSEWHERE, lambda x: x[number(x), number(x)], SQUARE),
    "transposed": ("gather|add", "", lambda x, i: x[i, number(x)], SQUARE, PLACE),
    "columns": ("gather", "another axis", lambda x: x[:, number(x)], SQUARE),
    "shared_table": ("gather", "argument that leads", lambda x: x + TABLE[number(x)], X),
    "neighbors": (
        "gather",
        "neighboring",
        lambda x: jax.lax.gather(
            x,
            number(x)[:, None],
            jax.lax.GatherDimensionNumbers((1, 2), (), (0,)),
            (2, D),
            mode="clip",
        ),
        X,
    ),
    "promised_order_of_columns": (
        "gather",
        "indices_are_sorted",
        lambda x, i: x.T.at[i, number(x)].get(indices_are_sorted=True),
        X,
        PLACE,
    ),
    "written_to_the_next": (
        "scatter",
        ELSEWHERE,
        lambda x: x.at[(number(x) + 1) % x.shape[0], 0].set(0.0),
        X,
    ),
    "written_in_reverse": (
        "scatter",
        ELSEWHERE,
        lambda x, i: jnp.zeros_like(x).at[number(x)[::-1], i].set(x[:, 0]),
        X,
        PLACE,
    ),
    # JAX numbers what is written, to tell which of those that meet in one place has won.
    "gradient_of_writes_that_may_meet": (
        "iota",
        "`scatter` at",
        lambda x: jax.grad(lambda x: (x.at[number(x), 1].set(x[:, 0]) ** 2).sum())(x),
        X,
    ),
    "returned": ("iota", NUMBERED, lambda x: (x, number(x)), X),
    "added": ("iota", "`convert_element_type` at", lambda x: x + number(x)[:, None], X),
    "masked": ("iota", NUMBERED, lambda x: jnp.where(number(x)[:, None] < 2, x, 0.0), X),
    "up_to_a_length": (
        "iota",
        "`lt` at",
        lambda x, length: jnp.where(number(x)[:, None] < length, x, 0.0),
        X,
        jnp.int32(2),
    ),
    "one_hot": ("iota", NUMBERED, lambda x: x + jax.nn.one_hot(number(x), D), X),
    "first_number": ("iota", NUMBERED, lambda x: x * number(x)[0], X),
    "flat_places": ("iota", "`add` at", lambda x, i: x.reshape(-1)[number(x) * D + i], X, PLACE),
    "keys": (
        "iota",
        "`random_fold_in` at",
        lambda x: (
            x + jax.vmap(lambda r: noise(jax.random.fold_in(jax.random.key(0), r)))(number(x))
        ),
        X,
    ),
    "mapped": ("iota", "`scan` at", lambda x: (x, jax.lax.map(lambda r: r * 2, number(x))), X),
    "loop_over_numbers": ("iota", "`scan` at", lambda x: jax.lax.map(lambda r: x[r], number(x)), X),
    "carried_on": (
        "scan",
        "joins",
        lambda x: jax.lax.fori_loop(
            0, 2, lambda _, c: (c[0] + 1, x[c[0], 0]), (number(x), x[:, 0])
        ),
        X,
    ),
    "counted": ("mul", COUNTED, lambda x: x * x.shape[0], integers(B, T, D, below=5)),
    "counted_and_returned": ("", COUNTED, lambda x: (x, x.shape[0] * jnp.int32(2)), X),
    "turns": ("lt", COUNTED, lambda x: turns(x, x.shape[0]), X),
    "branch": (
        "cond",
        COUNTED,
        lambda x: jax.lax.cond(x.shape[0] > 6, lambda: x, lambda: 2 * x),
        X,
    ),
    "choice": ("select_n", COUNTED, lambda x: jnp.where(x.shape[0] > 6, x, 2 * x), X),
    "seed": ("random_seed", COUNTED, lambda x: x + noise(jax.random.key(x.shape[0])), X),
    "start": (
        "dynamic_slice",
        COUNTED,
        lambda x: jax.lax.dynamic_slice(x, (0, x.shape[0] - 2), (x.shape[0], 2)),
        X,
    ),
    "inside_apply": (
        "scatter",
        COUNTED,
        lambda x: x.at[:, 1].apply(lambda v: v * x.shape[0]),
        integers(B, T, D, below=5),
    ),
    "inside_apply_of_floats": (
        "scatter",
        COUNTED,
        lambda x: x.at[:, 1].apply(lambda v: v * x.shape[0]),
        X,
    ),
    "inside_reduce": (
        "reduce",
        COUNTED,
        lambda x: jax.lax.reduce(x, jnp.float32(0), lambda a, b: a + b * x.shape[0], (1,)),
        X,
    ),
}


def noise(key):
    return jax.random.normal(key, (D,))


def turns(x, count):
    def turn(carry):
        return carry[0] + 1, carry[1] * 2

    return jax.lax.while_loop(lambda carry: carry[0] < count, turn, (0, x))[1]


@pytest.mark.parametrize("name", REFUSED)
def test_rows_that_are_told_apart_are_refused(name):
    operation, reason, fun, *args = REFUSED[name]
    message = refusal(fun, *args, in_axes=tuple(1 if arg.ndim > 1 else None for arg in args))
    assert message is not None, "a function that tells rows apart was folded"
    if operation:
        assert re.search(f"`({operation})`.* at .*test_row_numbers\\.py", message), message
    assert reason in message, message
    if operation == "iota":
        assert "jax.vmap" in message and "take_along_axis" in message


def test_numpys_numbers_are_refused_with_what_to_write():
    message = refusal(lambda x, i: x[np.arange(x.shape[0]), i], X, PLACE)
    assert "jnp.arange" in message


WHOLE = np.array([[-7, -2, -1], [0, 3, 100]])
OPERATIONS = {
    "two": [
        jax.lax.add,
        jax.lax.sub,
        jax.lax.mul,
        jax.lax.div,
        jax.lax.rem,
        jax.lax.max,
        jax.lax.min,
        jax.lax.eq,
        jax.lax.ne,
        jax.lax.lt,
        jax.lax.le,
        jax.lax.gt,
        jax.lax.ge,
        jax.lax.bitwise_and,
        jax.lax.bitwise_or,
        jax.lax.bitwise_xor,
        lambda x, y: jax.lax.clamp(jnp.minimum(x, y), x - y, jnp.maximum(x, y)),
        lambda x, y: jnp.where(x < y, x, y),
        lambda x, y: (x // y, x % y),
        lambda x, y: jnp.concatenate([x, y], 1),
        lambda x, y: jnp.stack([x, y], 1),
    ],
    "one": [
        jnp.abs,
        jax.lax.neg,
        jax.lax.sign,
        jax.lax.square,
        jax.lax.bitwise_not,
        lambda x: x**3,
        lambda x: (x > 0) ^ (x < 3),
        lambda x: x.astype(jnp.int8).astype(jnp.uint32).astype(bool),
        lambda x: jax.lax.broadcasted_iota(x.dtype, (2, 300), 1),
        lambda x: jax.lax.broadcast_in_dim(x, (4, 2, 3), (1, 2)),
        lambda x: jax.lax.expand_dims(x, (0, 2)),
        lambda x: jnp.squeeze(x[:, 1:2], 1),
        lambda x: x[::-1, 1:3:2],
        lambda x: jax.lax.slice(x, (0, 0), (2, 3), (1, 2)),
        lambda x: x.reshape(3, 2).T,
        lambda x: jnp.tile(x, (2, 3)),
        lambda x: jnp.split(x, [1], 1),
        lambda x: jnp.unstack(x, axis=1),
        lambda x: jnp.repeat(x, 2, 1),
        lambda x: jnp.unravel_index(jnp.abs(x), (3, 5)),
    ],
}


def evaluated(jaxpr, values):
    """Return what is known of the outputs of a program on known inputs."""
    found = dict(zip(jaxpr.invars, values, strict=True))

    def read(atom):
        if hasattr(atom, "val"):
            return known.literal(atom.val, atom.val, atom.aval.dtype)
        return found[atom]

    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        if eqn.primitive.name in ("jit", "pjit"):
            outputs = evaluated(eqn.params["jaxpr"].jaxpr, inputs)
        else:
            atoms = tuple(Atom(var, var.aval.shape, var.aval.dtype) for var in eqn.outvars)
            both = Equation(eqn, eqn, (), atoms, eqn.params, (1, 1))
            outputs = known.computed(both, inputs, counts_rows=False)
            assert outputs is not None, eqn
        found.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.int8, jnp.uint8, jnp.uint32], ids=str)
@pytest.mark.parametrize("count", OPERATIONS)
def test_known_numbers_are_those_of_jax(count, dtype):
    x = jnp.asarray(WHOLE.astype(dtype))
    args = (x, jnp.asarray(np.array([[2, -3, 5], [-1, 7, 100]]).astype(dtype)))[
        : 2 - (count == "one")
    ]
    for operation in OPERATIONS[count]:
        if operation is jax.lax.neg and dtype == jnp.uint32:
            continue
        closed = jax.make_jaxpr(operation)(*args)
        given = [known.Known(lambda arg=arg: (np.asarray(arg), np.asarray(arg))) for arg in args]
        expected = jax.tree.leaves(jax.jit(operation)(*args))
        for ours, theirs in zip(evaluated(closed.jaxpr, given), expected, strict=True):
            small, large = ours.values
            assert small.dtype == theirs.dtype
            np.testing.assert_array_equal(small, theirs)
            np.testing.assert_array_equal(large, theirs)
