"""Gradients of what steps share, in narrow dtypes: no strategy is further off than a whole fold."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import optimise
from flax import nnx
from jax import lax

import tdjax
import tdjax.linen
import tdjax.nnx
from tdjax import Fold, Packed, Vmap

BATCH, TIME, FEATURES = 16, 32, 16
FEWER = (Vmap(chunk_size=1), Fold(chunk_size=4), Packed(chunk_size=8))
STRATEGIES = (*FEWER, Vmap(chunk_size=5, remat=True), Fold(chunk_size=100, unroll=True))
MOST = 1.5
random = np.random.default_rng(0)


def normal(*shape):
    return random.normal(size=shape)


def convolve(kernel, x):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)


def recur(kernel, x):
    def turn(state, now):
        state = jnp.tanh(now + state @ kernel)
        return state, state

    return lax.scan(turn, jnp.zeros_like(x[:, 0]), jnp.moveaxis(x, 1, 0))[0]


def normalize(scale, x):
    return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True)) * scale[None]


def attend(kernels, x):
    queries, values = x @ kernels[0], jnp.einsum("bsf,fg->bsg", x, kernels[1])
    return jax.nn.softmax(queries @ x.mT) @ values


X = normal(BATCH, TIME, FEATURES)
CASES = {
    "product": (lambda kernel, x: x @ kernel, normal(FEATURES, FEATURES), X),
    "product_from_the_left": (lambda kernel, x: (kernel @ x.T).T, normal(4, FEATURES), X),
    "convolution": (convolve, normal(3, 3, 2, 4), normal(BATCH, TIME, 4, 4, 2)),
    "bias": (lambda bias, x: jnp.sin(x + bias[None]), normal(FEATURES), X),
    "scale": (normalize, normal(FEATURES), X),
    "embedding": (
        lambda table, i: table[i],
        normal(9, 4),
        random.integers(0, 9, (BATCH, TIME), np.int32),
    ),
    "scan_inside": (recur, normal(8, 8) / 3, normal(BATCH, TIME, 3, 8)),
    "products_of_sequences": (attend, normal(2, 8, 8) / 3, normal(BATCH, TIME, 3, 8)),
    "in_jit_and_remat": (
        jax.jit(jax.checkpoint(lambda kernel, x: jnp.sin(x @ kernel) @ kernel)),
        normal(FEATURES, FEATURES) / 4,
        X,
    ),
    "of_a_function_of_weights": (
        lambda kernel, x: x @ jax.nn.gelu(kernel) + jnp.where(kernel > 0, kernel, 0)[:1],
        normal(FEATURES, FEATURES) / 4,
        X,
    ),
    "of_normalized_weights": (
        lambda kernel, x: x @ (kernel / jnp.linalg.norm(kernel, axis=0, keepdims=True)),
        normal(FEATURES, FEATURES) / 4,
        X,
    ),
    "in_a_branch": (
        lambda kernel, x: jax.lax.cond(x.shape[0] > 0, lambda x: jnp.sin(x @ kernel), jnp.sin, x),
        normal(FEATURES, FEATURES) / 4,
        X,
    ),
    "a_step_of_its_own": (
        lambda w, x, t: (x + t) @ w,
        normal(FEATURES, FEATURES),
        X,
        normal(TIME),
    ),
    "a_row_that_steps_share": (lambda shared, x: x * shared, normal(BATCH, FEATURES), X),
    "an_output_of_all_steps": (lambda w, x: (x * w[None], w * w), normal(FEATURES), X),
}


@pytest.fixture(autouse=True, scope="module")
def as_users_compile():
    optimise(True)  # XLA fuses what it rounds
    yield
    optimise(False)


def masked(strategy):
    return {"mask": jnp.ones((BATCH, TIME), bool)} if strategy.packs else {}


def over_time(step, mapped, strategy):
    """Return a function of what is shared, over the steps of `mapped`."""
    axes = (None, *(0 if x.ndim == 1 else 1 for x in mapped))
    wrapped = tdjax.time_distributed(step, in_axes=axes, strategy=strategy)
    return lambda shared: wrapped(shared, *mapped, **masked(strategy))


def gradient(function, shared):
    """Return the gradient for fixed cotangents of the size of the outputs."""
    outputs, pullback = jax.vjp(function, shared)
    rng = np.random.default_rng(1)
    leaves, tree = jax.tree.flatten(outputs)
    given = [jnp.asarray(rng.normal(size=y.shape), jnp.bfloat16).astype(y.dtype) for y in leaves]
    return pullback(jax.tree.unflatten(tree, given))[0]


def in_dtype(array, dtype):
    return jnp.asarray(array, dtype if array.dtype == np.float64 else array.dtype)


def errors(run, arrays, strategies, dtype):
    """Return how far off each strategy is, relative to all of the gradient, and to its largest.

    Args:
        run: takes a strategy and arrays, and returns gradients.
        arrays: the arguments, which are rounded.
        strategies: what is compared.
        dtype: that of the arrays.
    """

    def all_of_them(narrow):
        wide = [x.astype(jnp.float32) if x.dtype == dtype else x for x in narrow]
        return run(Fold(), wide), [run(strategy, narrow) for strategy in strategies]

    given = [in_dtype(array, dtype) for array in arrays]
    right, found = jax.device_get(jax.jit(all_of_them)(given))
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(right)]).astype(np.float64)
    found = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(each)]) for each in found]
    assert all(each.dtype == dtype for each in found)
    off = [each.astype(np.float64) - flat for each in found]
    return [
        (np.linalg.norm(each) / np.linalg.norm(flat), abs(each).max() / abs(flat).max())
        for each in off
    ]


def assert_near(run, arrays, strategies, dtype=jnp.bfloat16):
    """Assert that none is further off than a whole fold, or than what one rounding may come to."""
    whole, *others = errors(run, arrays, (Fold(), *strategies), dtype)
    rounding = float(jnp.finfo(dtype).eps) * np.array([0.25, 0.5])
    for strategy, found in zip(strategies, others, strict=True):
        most = MOST * np.maximum(whole, rounding)
        assert all(np.less_equal(found, most)), (str(strategy), found, whole)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_no_further_off_than_those_of_a_whole_fold(name):
    step, *arrays = CASES[name]

    def run(strategy, arrays):
        shared, *mapped = arrays
        return gradient(over_time(step, mapped, strategy), shared)

    assert_near(run, arrays, STRATEGIES)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float8_e4m3fn])
def test_other_narrow_dtypes(dtype):
    def step(kernel, x):
        return (x.astype(jnp.float32) @ kernel.astype(jnp.float32)).astype(x.dtype)

    def run(strategy, arrays):
        shared, x = arrays
        return gradient(over_time(step, [x], strategy), shared)

    assert_near(run, [normal(FEATURES, FEATURES), X / 16], FEWER, dtype)


def test_arrays_that_are_closed_over():
    def run(strategy, arrays):
        def outputs(kernel):
            wrapped = tdjax.time_distributed(lambda x: x @ kernel, strategy=strategy)
            return wrapped(arrays[1], **masked(strategy))

        return gradient(outputs, arrays[0])

    assert_near(run, [normal(FEATURES, FEATURES), X], FEWER)


@pytest.mark.parametrize("order", ["forward over reverse", "reverse over reverse"])
def test_second_derivatives(order):
    def run(strategy, arrays):
        kernel, direction, x = arrays
        outputs = over_time(lambda kernel, x: jnp.sin(x @ kernel), [x], strategy)
        first = functools.partial(gradient, outputs)
        if order == "forward over reverse":
            return jax.jvp(first, (kernel,), (direction,))[1]
        return jax.vjp(first, kernel)[1](direction)[0]

    kernels = normal(FEATURES, FEATURES) / 4, normal(FEATURES, FEATURES)
    # In reverse mode twice, JAX adds up in a scan what it has taken out of it: see core/shared.py.
    strategies = (
        (Vmap(chunk_size=1), Fold(chunk_size=16), Packed(chunk_size=16))
        if order == "forward over reverse"
        else (Fold(chunk_size=64, unroll=True), Packed(chunk_size=64))
    )
    assert_near(run, [*kernels, X], strategies)


def test_layers():
    layer = nn.Dense(FEATURES, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    other = nnx.Linear(
        FEATURES, FEATURES, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
    )

    def run(strategy, arrays):
        kernel, x = arrays
        linen = tdjax.linen.TimeDistributed(layer.clone(dtype=x.dtype), strategy=strategy)
        wrapped = tdjax.nnx.TimeDistributed(other, strategy=strategy)
        graph, _ = nnx.split(wrapped)

        def outputs(kernel):
            bias = jnp.zeros(FEATURES, kernel.dtype)
            params = {"layer": {"kernel": kernel, "bias": bias}}
            first = linen.apply({"params": params}, x, **masked(strategy))
            new = {"layer": {"kernel": nnx.Param(kernel), "bias": nnx.Param(bias)}}
            second = nnx.merge(graph, nnx.State(new))(x, **masked(strategy))
            return first, second.astype(x.dtype)

        return gradient(outputs, kernel)

    assert_near(run, [normal(FEATURES, FEATURES), X], FEWER)


def test_state_that_is_carried():
    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x):
            kernel = self.param("kernel", nn.initializers.zeros, (FEATURES, FEATURES), x.dtype)
            count = self.variable("state", "count", lambda: jnp.zeros((), jnp.int32))
            count.value += 1
            return x @ kernel

    def run(strategy, arrays):
        kernel, x = arrays
        if strategy == Fold():
            return gradient(over_time(lambda kernel, x: x @ kernel, [x], strategy), kernel)
        wrapped = tdjax.linen.TimeDistributed(Counted(), strategy=strategy, state="carry")
        state = {"layer": {"count": jnp.zeros((), jnp.int32)}}

        def outputs(kernel):
            variables = {"params": {"layer": {"kernel": kernel}}, "state": state}
            return wrapped.apply(variables, x, mutable=["state"])[0]

        return gradient(outputs, kernel)

    assert_near(run, [normal(FEATURES, FEATURES), X], (Vmap(chunk_size=1),))


@pytest.mark.parametrize("strategy", [each for each in STRATEGIES if not each.packs], ids=str)
def test_wider_dtypes_are_not_split(strategy):
    def run(kernel, x):
        return gradient(over_time(lambda kernel, x: jnp.sin(x @ kernel), [x], strategy), kernel)

    for dtype, splits in ((jnp.float32, False), (jnp.bfloat16, True)):
        shapes = [jax.ShapeDtypeStruct(s, dtype) for s in ((FEATURES, FEATURES), X.shape)]
        program = str(jax.make_jaxpr(run)(*shapes))
        assert any(name in program for name in ("tdjax_product", "tdjax_view")) == splits


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize(
    "step", [lambda w, x: x @ w, lambda w, x: x * w[:1]], ids=["product", "scaled"]
)
def test_a_step_that_is_linear_in_narrow_weights_can_be_transposed(step, strategy):
    random = np.random.default_rng(0)
    w, x, cotangent = (
        jnp.asarray(random.standard_normal(s), jnp.bfloat16) for s in ((6, 6), (3, 7, 6), (3, 7, 6))
    )

    def call(w):
        wrapped = tdjax.time_distributed(step, in_axes=(None, 1), strategy=strategy)
        return wrapped(w, x, seq_lengths=jnp.array([7, 2, 4]))

    def wide(w):
        real = jnp.arange(7)[None] < jnp.array([[7], [2], [4]])
        return jnp.where(real[..., None], jax.vmap(step, (None, 1), 1)(w, x.astype(jnp.float32)), 0)

    (found,) = jax.linear_transpose(call, w)(cotangent)
    (wanted,) = jax.vjp(wide, w.astype(jnp.float32))[1](cotangent.astype(jnp.float32))
    assert found.dtype == w.dtype
    assert jnp.abs(found.astype(jnp.float32) - wanted).max() < 0.02 * jnp.abs(wanted).max()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize(
    "step", [lambda w, x: x + w, lambda w, x: w - 2 * x], ids=["sum", "difference"]
)
def test_a_sum_with_narrow_weights_can_be_transposed_for_both(step, strategy):
    random = np.random.default_rng(0)
    w, x, cotangent = (
        jnp.asarray(random.standard_normal(s), jnp.bfloat16) for s in ((1, 6), (3, 7, 6), (3, 7, 6))
    )

    def call(w, x):
        wrapped = tdjax.time_distributed(step, in_axes=(None, 1), strategy=strategy)
        return wrapped(w, x, seq_lengths=jnp.array([7, 2, 4]))

    found = jax.linear_transpose(call, w, x)(cotangent)
    for mine, wanted in zip(found, jax.vjp(call, w, x)[1](cotangent), strict=True):
        np.testing.assert_allclose(
            mine.astype(jnp.float32), wanted.astype(jnp.float32), rtol=0.02, atol=0.02
        )
