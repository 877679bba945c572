"""The public edge: forms of the decorator, methods, arguments, and JAX around it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array
from jax import export
from jax.experimental import jet
from oracle import assert_same, loop

import tdjax
from tdjax import Auto, Fold, StrategyError, Vmap

X = array(3, 4, 2)
X_EXPORT = array(4, 3, 3)
STRATEGIES = [
    Vmap(),
    Vmap(chunk_size=1),
    Vmap(chunk_size=3, unroll=True),
    Fold(),
    Fold(chunk_size=5),
    Auto(),
]
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=str)


def scaled(x, scale=2.0):
    """Multiply."""
    return x * scale


class Model:
    """Has a method over time."""

    def __init__(self, scale):
        self.scale = scale

    @tdjax.time_distributed(strategy="fold")
    def bare(self, x):
        """Scale by the instance."""
        return x * self.scale

    @tdjax.time_distributed(in_axes=(1, None), out_axes=0)
    def shared(self, x, shift):
        return x * self.scale + shift

    @staticmethod
    @tdjax.time_distributed
    def static(x):
        return x + 1


class Callable:
    def __call__(self, x):
        return x * 3


@pytest.mark.parametrize(
    "wrapped",
    [
        tdjax.time_distributed(scaled),
        tdjax.time_distributed()(scaled),
        tdjax.time_distributed(strategy="vmap")(scaled),
        tdjax.time_distributed(in_axes=-2, out_axes=-2, strategy=Fold())(scaled),
        tdjax.time_distributed(in_axes=(1,))(scaled),
        tdjax.time_distributed(in_axes=[1])(scaled),
    ],
)
def test_every_form_wraps_and_keeps_the_name(wrapped):
    assert_same(wrapped(X), X * 2)
    assert_same(wrapped(X, scale=3.0), X * 3)
    assert wrapped.__name__ == "scaled" and wrapped.__doc__ == "Multiply."
    assert wrapped.__wrapped__ is scaled
    assert "scaled" in repr(wrapped)


def test_methods_bind_their_instance():
    one, two = Model(2.0), Model(5.0)
    assert_same(one.bare(X), X * 2)
    assert_same(two.bare(X), X * 5)
    assert_same(one.shared(X, jnp.float32(1)), jnp.moveaxis(X, 1, 0) * 2 + 1)
    assert_same(Model.static(X), X + 1)
    assert Model.bare.__name__ == "bare" and one.bare.__doc__ == "Scale by the instance."
    one.scale = 7.0
    assert_same(one.bare(X), X * 7)


def test_partials_bound_methods_and_callables_are_functions():
    assert_same(tdjax.time_distributed(functools.partial(scaled, scale=4.0))(X), X * 4)
    assert_same(tdjax.time_distributed(Callable())(X), X * 3)
    assert_same(tdjax.time_distributed(Callable().__call__, strategy="fold")(X), X * 3)
    assert_same(tdjax.time_distributed(jnp.sin)(X), jnp.sin(X))


@every_strategy
def test_numpy_arrays_and_python_scalars(strategy):
    fun = tdjax.time_distributed(lambda x, a, b: x * a + b, strategy=strategy)
    assert_same(fun(np.asarray(X), 2.0, 1), X * 2 + 1)


@every_strategy
def test_keywords_reach_every_step_as_they_are(strategy):
    def step(x, *, table, name):
        assert name == "a" and table.shape == (3, 4, 2)
        return x * table.sum()

    fun = tdjax.time_distributed(step, strategy=strategy)
    assert_same(fun(X, table=X, name="a"), X * X.sum())


WEIGHT, BATCHED = array(2, 2), jax.device_put(np.stack([X, 2 * X]))
TANGENTS = jax.device_put((0.5 * np.asarray(WEIGHT), 0.1 * np.asarray(X)))


def matmul(weight, x):
    return jnp.tanh(x @ weight)


def squares(fun, weight, x):
    return (fun(weight, x) ** 2).sum()


@functools.cache
def transformed_loop():
    """Return what the loop gives under each transformation."""

    def reference(weight, x):
        return loop(matmul, (weight, x), in_axes=(None, 1))

    @jax.jit
    def run(weight, x, tangents):
        return {
            "values": reference(weight, x),
            "jvp": jax.jvp(reference, (weight, x), tangents),
            "many": jnp.stack([reference(weight, x) for x in BATCHED]),
            "grad": jax.grad(functools.partial(squares, reference))(weight, x),
            "hessian": jax.hessian(functools.partial(squares, reference))(weight, x),
        }

    return run(WEIGHT, X, TANGENTS)


@every_strategy
def test_under_every_transformation(strategy):
    fun = tdjax.time_distributed(matmul, in_axes=(None, 1), strategy=strategy)
    expected = transformed_loop()
    assert_same(jax.jit(fun)(WEIGHT, X), expected["values"])
    assert_same(jax.checkpoint(fun)(WEIGHT, X), expected["values"])
    shape = jax.eval_shape(fun, WEIGHT, X)
    assert (shape.shape, shape.dtype) == (expected["values"].shape, expected["values"].dtype)
    assert_same(jax.jvp(fun, (WEIGHT, X), TANGENTS), expected["jvp"], 5)
    assert_same(jax.vmap(fun, (None, 0))(WEIGHT, BATCHED), expected["many"])
    _, scanned = jax.lax.scan(lambda c, x: (c, fun(WEIGHT, x)), None, BATCHED)
    assert_same(scanned, expected["many"])
    for transform in (jax.grad, jax.hessian):
        ours = jax.jit(transform(functools.partial(squares, fun)))(WEIGHT, X)
        assert_same(ours, expected[transform.__name__], scale=20)


@every_strategy
@pytest.mark.parametrize("masked", [False, True])
def test_a_linear_step_can_be_transposed(strategy, masked):
    mask = jnp.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool) if masked else None
    x, cotangent = array(3, 4, 6), array(3, 4, 6)

    def call(x):
        return tdjax.time_distributed(lambda x: 2 * x, strategy=strategy)(x, mask=mask)

    (found,) = jax.jit(jax.linear_transpose(call, x))(cotangent)
    kept = True if mask is None else mask[..., None]
    assert_same(found, 2 * jnp.where(kept, cotangent, 0))


# Of loops JAX knows no series.
@pytest.mark.parametrize("strategy", ["vmap", "unroll", "fold", Fold(chunk_size=5, unroll=True)])
@pytest.mark.parametrize("given", ["nothing", "mask", "seq_lengths"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_has_the_series_of_the_loop(strategy, given, dtype):
    lengths = np.array([4, 2, 0])
    mask = jnp.arange(4)[None] < lengths[:, None]
    real = {"nothing": {}, "mask": {"mask": mask}, "seq_lengths": {"seq_lengths": lengths}}[given]
    weight, x = (jnp.asarray(array(*shape), dtype) for shape in ((6, 6), (3, 4, 6)))
    series = [[jnp.ones_like(each), jnp.cos(each)] for each in (weight, x)]

    def step(weight, x):
        return jnp.sin(x @ weight) + weight[:1]

    def by_hand(weight, x):
        outputs = jnp.stack([step(weight, x[:, t]) for t in range(4)], 1)
        return jnp.where(mask[..., None], outputs, jnp.zeros_like(outputs)) if real else outputs

    fun = tdjax.time_distributed(step, in_axes=(None, 1), strategy=strategy)
    found = jet.jet(lambda *args: fun(*args, **real), (weight, x), series)
    wanted = jet.jet(by_hand, (weight, x), series)
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        most = 10 * float(jnp.finfo(dtype).eps) * float(jnp.abs(theirs).max())
        assert mine.dtype == dtype
        assert jnp.abs(mine - theirs).max() <= most


@every_strategy
@pytest.mark.parametrize("inner", ["vmap", "map", "fold", "auto"])
def test_nested_in_itself(strategy, inner):
    x = array(2, 3, 4, 5)  # (batch, videos, frames, features)
    step = tdjax.time_distributed(lambda x: jax.nn.softmax(x, -1), strategy=inner)
    assert_same(tdjax.time_distributed(step, strategy=strategy)(x), jax.nn.softmax(x, -1))


@every_strategy
def test_outer_axes_keep_their_names(strategy):
    fun = tdjax.time_distributed(lambda x: x - jax.lax.pmean(x, "outer"), strategy=strategy)
    x = array(2, 3, 4, 2)
    try:
        output = jax.vmap(fun, axis_name="outer")(x)
    except StrategyError:
        assert isinstance(strategy, Fold)
        return
    assert_same(output, x - x.mean(0, keepdims=True))


def exported(fun, *shapes):
    sizes = export.symbolic_shape("batch, time")
    shapes = [tuple({"b": sizes[0], "t": sizes[1]}.get(size, size) for size in s) for s in shapes]
    structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return export.export(jax.jit(fun))(*structs)


@pytest.mark.parametrize("strategy", ["vmap", "fold", "auto"])
def test_export_with_symbolic_batch_and_time(strategy):
    def step(x, weight):
        return jnp.tanh(x @ weight), x.sum(-1)

    fun = tdjax.time_distributed(step, in_axes=(1, None), strategy=strategy)
    program = exported(fun, ("b", "t", 3), (3, 2))
    for shape in ((2, 4, 3), (5, 1, 3)):
        args = array(*shape), array(3, 2)
        assert_same(tuple(program.call(*args)), loop(step, args, (1, None)))


@pytest.mark.parametrize("strategy", ["vmap", "auto"])
def test_export_of_a_step_that_mixes_rows(strategy):
    def step(x):
        return x - x.mean(0, keepdims=True)

    program = exported(tdjax.time_distributed(step, strategy=strategy), ("b", "t", 3))
    assert_same(program.call(X_EXPORT), loop(step, (X_EXPORT,)))
    with pytest.raises(StrategyError):
        exported(tdjax.time_distributed(step, strategy="fold"), ("b", "t", 3))


@pytest.mark.parametrize("strategy", ["map", "unroll", Vmap(chunk_size=2)], ids=str)
def test_export_in_blocks_needs_a_known_time(strategy):
    fun = tdjax.time_distributed(jnp.sin, strategy=strategy)
    with pytest.raises(StrategyError, match="symbol"):
        exported(fun, ("b", "t", 3))
    program = exported(fun, ("b", 3, 3))
    assert_same(program.call(X_EXPORT), jnp.sin(X_EXPORT))


def test_export_with_a_mask():
    fun = tdjax.time_distributed(jnp.cos, strategy="fold")
    sizes = export.symbolic_shape("batch, time")
    mask = jax.ShapeDtypeStruct(sizes, bool)
    x = jax.ShapeDtypeStruct((*sizes, 3), jnp.float32)
    program = export.export(jax.jit(lambda x, mask: fun(x, mask=mask)))(x, mask)
    given = jnp.arange(12).reshape(4, 3) % 5 > 1
    expected = jnp.where(given[..., None], jnp.cos(X_EXPORT), 0.0)
    assert_same(program.call(X_EXPORT, given), expected)


POOLED_MIXING = {
    "center": lambda x: x - x.mean(0, keepdims=True),
    "softmax": lambda x: jax.nn.softmax(x, 0),
    "number": lambda x: x + x.shape[0],
    "cumsum": lambda x: jnp.cumsum(x, 0),
}


@pytest.mark.parametrize("strategy", ["fold", "auto"])
@pytest.mark.parametrize("name", POOLED_MIXING)
def test_pooled_shows_all_rows_at_once(name, strategy):
    fun = POOLED_MIXING[name]
    output = tdjax.time_distributed(fun, pooled=True, strategy=strategy)(X)
    assert_same(output, fun(X.reshape(12, 2)).reshape(X.shape))


@pytest.mark.parametrize("strategy", ["vmap", "map", "unroll", Fold(chunk_size=5)], ids=str)
def test_pooled_in_steps_or_blocks_needs_independent_rows(strategy):
    assert_same(tdjax.time_distributed(jnp.sin, pooled=True, strategy=strategy)(X), jnp.sin(X))
    mixing = tdjax.time_distributed(POOLED_MIXING["center"], pooled=True, strategy=strategy)
    with pytest.raises(StrategyError, match="reduce_sum"):
        mixing(X)


def test_pooled_gives_one_value_for_all_steps_with_out_axes_none():
    fun = tdjax.time_distributed(
        lambda x: (x, x.mean()), pooled=True, strategy="fold", out_axes=(1, None)
    )
    output, mean = fun(X)
    assert_same(output, X)
    assert_same(mean, X.mean())


@pytest.mark.parametrize("strategy", ["vmap", "auto", Vmap(remat=True)], ids=str)
def test_axis_name_binds_time(strategy):
    fun = tdjax.time_distributed(
        lambda x: x - jax.lax.pmean(x, "time"), axis_name="time", strategy=strategy
    )
    try:
        output = fun(X)
    except StrategyError:
        assert strategy == Vmap(remat=True)
        return
    assert_same(output, X - X.mean(1, keepdims=True))
    mask = jnp.ones((3, 4), bool).at[1, 2].set(False)
    assert_same(fun(X, mask=mask), jnp.where(mask[..., None], X - X.mean(1, keepdims=True), 0.0))


@pytest.mark.parametrize("shadowed", [False, True])
@pytest.mark.parametrize(
    "strategy", ["map", "unroll", Vmap(chunk_size=2), "fold", Fold(chunk_size=5)], ids=str
)
def test_axis_name_in_blocks_is_refused(strategy, shadowed):
    fun = tdjax.time_distributed(
        lambda x: x - jax.lax.pmean(x, "time"), axis_name="time", strategy=strategy
    )
    if shadowed:  # an outer axis of the same name must not be taken for time
        with pytest.raises(StrategyError):
            jax.vmap(fun, axis_name="time")(jnp.stack([X, X]))
    else:
        with pytest.raises(StrategyError, match="vmap"):
            fun(X)


@every_strategy
def test_axis_name_that_is_not_used_changes_nothing(strategy):
    fun = tdjax.time_distributed(jnp.sin, axis_name="time", strategy=strategy)
    assert_same(fun(X), jnp.sin(X))


def test_axis_size_agrees_with_what_is_mapped():
    fun = tdjax.time_distributed(lambda x: x, axis_size=4)
    assert_same(fun(X), X)
    with pytest.raises(ValueError, match="axis_size is 4"):
        fun(X[:, :2])


def test_a_global_that_changes_is_seen():
    scale = {"is": 2.0}
    for strategy in STRATEGIES:
        fun = tdjax.time_distributed(lambda x: x * scale["is"], strategy=strategy)
        for value in (2.0, 3.0, -0.0, 0.0):
            scale["is"] = value
            assert np.array_equal(1 / fun(X), 1 / (X * value))


def test_a_global_that_breaks_independence_is_seen():
    mode = {"training": False}

    def step(x):
        return x - x.mean(0, keepdims=True) if mode["training"] else x * 2

    fun, auto = (tdjax.time_distributed(step, strategy=s) for s in ("fold", "auto"))
    assert_same(fun(X), X * 2)
    mode["training"] = True
    with pytest.raises(StrategyError):
        fun(X)
    assert_same(auto(X), loop(step, (X,)))
    mode["training"] = False
    assert_same(fun(X), X * 2)


@every_strategy
@pytest.mark.parametrize("size", [2, 5000])
def test_a_numpy_array_that_changes_in_place_is_seen(strategy, size):
    table = np.ones((1, size), np.float32)
    for step in (lambda x: x + table, lambda x: x + jax.checkpoint(lambda y: y * table)(x)):
        fun = tdjax.time_distributed(step, strategy=strategy)
        x = jnp.ones((2, 3, size))
        for value in (1.0, 2.0, 1.0, 3.0):
            table[:] = value
            assert_same(fun(x), loop(step, (x,)))


def test_a_function_that_changes_at_every_call_is_never_folded_wrong():
    calls = []

    def step(x):
        calls.append(x.shape)
        return x - x.mean(0, keepdims=True) if len(calls) % 2 else x

    outputs = []
    for _ in range(4):
        try:
            outputs.append(tdjax.time_distributed(step, strategy="fold")(X))
        except StrategyError:
            outputs.append(None)
    either = (X, X - X.mean(0, keepdims=True))
    for output in outputs:
        assert output is None or any(np.allclose(output, one, atol=1e-5) for one in either)


@every_strategy
def test_a_users_own_error_passes_through(strategy):
    class TheirError(Exception):
        pass

    def step(x):
        raise TheirError("their words")

    fun = tdjax.time_distributed(step, strategy=strategy)
    for options in ({}, {"seq_lengths": jnp.array([1, 2, 3])}):
        with pytest.raises(TheirError) as caught:
            fun(X, **options)
        assert str(caught.value) == "their words"
    with pytest.raises(TypeError, match=r"dot_general|contracting"):
        tdjax.time_distributed(lambda x: x @ jnp.ones((9, 9)), strategy=strategy)(X)
