"""What is proven and what is not, as a table; and for what is not, the operation and its line."""

import inspect
import re

import jax
import jax.numpy as jnp
import pytest
from cases import array
from oracle import assert_same, loop
from probing import refusal

import tdjax

B, T, D = 4, 3, 4
X = array(B, T, D)
TABLE = array(D, D, seed=1)

PROVEN = {
    "elementwise": lambda x: jnp.where(x > 0, jnp.sin(x), x**2) + jnp.clip(x, -1, 1),
    "scalar": lambda x: 2.0 * x + 1,
    "broadcast": lambda x: x[:, None, :] + jnp.ones((1, 3, 1)),
    "reduce": lambda x: (x.sum(-1), x.max(-1), jnp.prod(x, -1), jnp.all(x > 0, -1)),
    "variance": lambda x: (x.var(-1), x.std(-1), jnp.median(x, -1)),
    "logsumexp": lambda x: jax.nn.logsumexp(x, -1),
    "matrix": lambda x: x @ TABLE,
    "matrix_from_the_left": lambda x: jnp.einsum("de,be->db", TABLE, x),
    "quadratic_form": lambda x: jnp.einsum("bi,ij,bj->b", x, TABLE, x),
    "batched_outer": lambda x: jnp.einsum("bi,bj->ijb", x, x),
    "vmapped_matrix": lambda x: jax.vmap(lambda row: TABLE @ row)(x),
    "merge_and_split": lambda x: jnp.sin(x.reshape(-1)).reshape(x.shape),
    "merge_and_regroup": lambda x: x.reshape(-1, 2).reshape(x.shape[0], 2, 2).sum(1),
    "split_and_transpose": lambda x: x.reshape(x.shape[0], 2, 2).transpose(2, 0, 1).reshape(2, -1),
    "expand_and_squeeze": lambda x: jnp.squeeze(x[None, :, None], (0, 2)),
    "rows_last": lambda x: jnp.cumsum(x.T, 0).T,
    "concatenate": lambda x: jnp.concatenate([x, -x], -1),
    "stack": lambda x: (jnp.stack([x, x * 2], 0), jnp.stack([x, x], -1)),
    "split": lambda x: jnp.split(x, 2, -1),
    "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2))),
    "slice": lambda x: (x[:, 0], x[..., None], jax.lax.slice_in_dim(x, 1, 3, axis=1)),
    "flip": lambda x: jnp.flip(x, -1),
    "roll_features": lambda x: jnp.roll(x, 1, -1),
    "iota_of_features": lambda x: x * jnp.arange(4.0)[None],
    "sort": lambda x: (jnp.sort(x, -1), jnp.argsort(x, -1)),
    "top_k": lambda x: jax.lax.top_k(x, 2),
    "gather_columns": lambda x: x[:, jnp.array([0, 2])],
    "gather_own": lambda x: jnp.take_along_axis(x, jnp.argsort(x, -1), -1),
    "gather_from_table": lambda x: TABLE[jnp.argmax(x, -1)],
    "scatter_columns": lambda x: x.at[:, 1].set(0.0),
    "scatter_own": lambda x: jax.vmap(lambda row: row.at[jnp.argmax(row)].set(0.0))(x),
    "one_hot": lambda x: jax.nn.one_hot(jnp.argmax(x, -1), 5),
    "associative_scan": lambda x: jax.lax.associative_scan(jnp.add, x, axis=1),
    "map_over_rows": lambda x: jax.lax.map(lambda row: row / row.sum(), x),
    "jit": jax.jit(lambda x: x * 2),
    "remat": jax.checkpoint(lambda x: jnp.sin(x)),
    "relu": jax.nn.relu,
    "fft": lambda x: jnp.abs(jnp.fft.fft(x)),
    "svd": lambda x: jnp.linalg.svd(x[:, :, None] * x[:, None], compute_uv=False),
    "hessian_of_a_row": lambda x: jax.vmap(jax.hessian(lambda row: (row**3).sum()))(x),
    "shared_noise_of_feature_shape": lambda x: x + jax.random.normal(jax.random.key(0), (1, 4)),
    "own_loop_over_features": lambda x: jax.lax.scan(lambda c, y: (c + y, c), x[:, 0], x.T)[1],
    "while_of_each_row": lambda x: jax.vmap(
        lambda r: jax.lax.while_loop(lambda c: (c > 0.1).any(), lambda c: c / 2, r)
    )(x),
    "nested": tdjax.time_distributed(lambda x: x * 2, in_axes=1, strategy="fold"),
}


@pytest.mark.parametrize("name", PROVEN)
def test_proven(name):
    fun = PROVEN[name]
    assert refusal(fun, X) is None
    for strategy in ("fold", tdjax.Fold(chunk_size=5)):
        folded = tdjax.time_distributed(fun, out_axes=0, strategy=strategy)
        assert_same(jax.jit(folded)(X), jax.jit(lambda x: loop(fun, (x,), 1, 0))(X))


ROWS = array(B, D, seed=2)

REFUSED = {
    "mean": ("reduce_sum", lambda x: x - x.mean(0, keepdims=True)),
    "maximum": ("reduce_max", lambda x: x / x.max()),
    "any": ("reduce_or", lambda x: jnp.where(jnp.any(x > 0), x, 0.0)),
    "argmax": ("argmax", lambda x: jnp.argmax(x, 0)),
    "softmax": ("reduce_max", lambda x: jax.nn.softmax(x, 0)),
    "cumsum": ("cumsum", lambda x: jnp.cumsum(x, 0)),
    "cumsum_of_merged": ("cumsum", lambda x: jnp.cumsum(x.reshape(-1)).reshape(x.shape)),
    "sort": ("sort", lambda x: jnp.sort(x, 0)),
    "sort_of_merged": ("sort", lambda x: jnp.sort(x.reshape(-1)).reshape(x.shape)),
    "fft": ("fft", lambda x: jnp.abs(jnp.fft.fft(x, axis=0))),
    "outer_product": ("dot_general", lambda x: x @ x.T),
    "gram": ("dot_general", lambda x: x.T @ x),
    "outer_sum": ("mul", lambda x: (x[:, None] * x[None]).sum(1)),
    "roll": ("slice", lambda x: jnp.roll(x, 1, 0)),
    "flip": ("rev", lambda x: jnp.flip(x, 0)),
    "joined_with_reversed": ("rev", lambda x: jnp.concatenate([x, jnp.flip(x, 0)], 1)),
    "twice_the_rows": ("concatenate", lambda x: jnp.concatenate([x, x], 0)),
    "tiled": ("tile", lambda x: jnp.tile(x, (2, 1))),
    "padded_rows": ("jit|pad", lambda x: jnp.pad(x, ((1, 1), (0, 0)))),
    "reshape_not_transpose": ("reshape", lambda x: x.reshape(4, -1)),
    "transpose_and_reshape": ("reshape", lambda x: x.T.reshape(-1, 4)),
    "merge_in_the_wrong_order": ("reshape", lambda x: x.T.reshape(-1).reshape(-1, 4)),
    "batch_size": ("div", lambda x: x.sum(-1) / x.shape[0]),
    "ones_counted": ("reduce_sum", lambda x: x * jnp.ones(x.shape).sum()),
    "arange": ("iota", lambda x: x + jnp.arange(x.shape[0], dtype=x.dtype)[:, None]),
    "arange_of_merged": (
        "iota",
        lambda x: (x.reshape(-1) * jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape),
    ),
    "square_of_ones": ("broadcast_in_dim", lambda x: jnp.ones((x.shape[0], x.shape[0])) @ x),
    "one_key": ("random_bits", lambda x: x + jax.random.normal(jax.random.key(0), x.shape)),
    "keys_split_by_row": (
        "random_split",
        lambda x: (x, jax.random.split(jax.random.key(0), x.shape[0])),
    ),
    "histogram": ("scatter-add", lambda x: jnp.zeros(5).at[jnp.argmax(x, -1)].add(1.0)),
    "while_any": (
        "reduce_or",
        lambda x: jax.lax.while_loop(lambda c: (c > 0.1).any(), lambda c: c / 2, x),
    ),
    "cond_on_data": (
        "reduce_sum",
        lambda x: jax.lax.cond(x.sum() > 0, lambda c: c * 2, lambda c: c, x),
    ),
    "carry_over_rows": (
        "scan",
        lambda x: jax.lax.scan(lambda c, r: (c + r, c), jnp.zeros(4), x)[1],
    ),
    "loop_as_long_as_the_batch": (
        "scan",
        lambda x: jax.lax.fori_loop(0, x.shape[0], lambda _, c: c * 2, x),
    ),
    "rows_as_kernel": (
        "conv_general_dilated",
        lambda x: jax.lax.conv_general_dilated(
            jnp.ones((1, 5, 1)),
            x[:, :1, None],
            (1,),
            "SAME",
            dimension_numbers=("NWC", "WIO", "NWC"),
        ),
    ),
    "conv_along_rows": (
        "conv_general_dilated",
        lambda x: jax.lax.conv_general_dilated(
            x[None], jnp.ones((2, 4, 1)), (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        ),
    ),
    "gradient_of_a_shared_weight": (
        "dot_general",
        lambda x: jax.grad(lambda w: (x @ w).sum())(TABLE),
    ),
    "inside_jit": ("reduce_sum", lambda x: jax.jit(lambda y: y / y.sum())(x)),
    "inside_remat_in_scan": (
        "reduce_sum",
        lambda x: jax.lax.scan(jax.checkpoint(lambda c, _: (c / c.sum(), ())), x, None, length=2)[
            0
        ],
    ),
    "pooling_over_rows": (
        "reduce_window_max",
        lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 1), (1, 1), "SAME"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_operation_and_its_line(name):
    operation, fun = REFUSED[name]
    message = refusal(fun, X)
    assert message is not None, "a function that mixes rows was folded"
    assert re.search(f"`({operation})`", message), message
    found = re.search(r"test_probes\.py:(\d+)", message)
    assert found, message
    source, first = inspect.getsourcelines(fun)
    assert first <= int(found.group(1)) < first + len(source)


NEEDS_BATCH_SIZE = {
    "closed_over_rows": lambda x: x + ROWS,
    "length": lambda x: x * len(x),
    "python_int": lambda x: x * int(x.shape[0]),
    "loop_over_rows": lambda x: jnp.stack([row / 2 for row in x]),
    "compared_in_order": lambda x: x * 2 if x.shape[0] > B else x,
    "identity_of_batch_size": lambda x: jnp.eye(x.shape[0]) @ x,
}


@pytest.mark.parametrize("name", NEEDS_BATCH_SIZE)
def test_a_function_that_needs_its_batch_size_is_refused(name):
    assert "not proven" in refusal(NEEDS_BATCH_SIZE[name], X)


ASKS = {
    "equal": lambda x: x * 2 if x.shape[0] == B else x,
    "equal_to_the_fold": lambda x: x * 2 if x.shape[0] == B * T else x,
    "one_of": lambda x: x * 2 if x.shape[0] in (1, B) else x,
    "even": lambda x: x * 2 if x.shape[0] % 4 == 0 else x,
    "by_table": lambda x: x * {B: 2.0}.get(x.shape[0], 1.0),
    "by_size": lambda x: x * 2 if x.size == B * D else x,
    "by_shape": lambda x: x * 2 if x.shape == (B, D) else x,
    "is_int": lambda x: x - x.mean(0, keepdims=True) if isinstance(x.shape[0], int) else x,
    "is_type": lambda x: jnp.roll(x, 1, 0) if type(x.shape[0]) is int else x,
    "by_name": lambda x: x * len(str(x.shape[0])),
    "by_attribute": lambda x: x if hasattr(x.shape[0], "scope") else jnp.roll(x, 1, 0),
    "by_error": lambda x: _by_error(x),
    "by_other_constant": lambda x: x + (TABLE[:1] if isinstance(x.shape[0], int) else TABLE[1:2]),
    "by_dtype": lambda x: x.astype(jnp.bfloat16 if isinstance(x.shape[0], int) else jnp.float32),
}


def _by_error(x):
    try:
        return x * 2 if x.shape[0] > 100 else x * 3
    except Exception:
        return x


@pytest.mark.parametrize(
    "strategy", ["fold", tdjax.Fold(chunk_size=4), tdjax.Fold(chunk_size=5), "auto"], ids=str
)
@pytest.mark.parametrize("name", ASKS)
def test_a_function_that_asks_for_its_batch_size_is_never_changed(name, strategy):
    fun = ASKS[name]
    try:
        output = tdjax.time_distributed(fun, strategy=strategy)(X)
    except tdjax.StrategyError:
        assert strategy != "auto"
        return
    assert_same(output, loop(fun, (X,)))


def test_a_squeeze_of_a_batch_of_one_is_never_changed():
    x = array(1, T, D)
    output = tdjax.time_distributed(lambda x: x.squeeze() * 2)(x)
    assert_same(output, jnp.moveaxis(x[0], 0, 1) * 2)


def test_a_primitive_without_a_rule_proves_nothing():
    unknown = jax.extend.core.Primitive("unknown_to_all")
    unknown.def_abstract_eval(lambda x: x)
    message = refusal(lambda x: unknown.bind(x * 2) + 1, X)
    assert "`unknown_to_all`" in message and "no rule" in message and "test_probes.py" in message


def test_a_callback_proves_nothing():
    def step(x):
        return jax.pure_callback(lambda y: y - y.mean(0), jax.typeof(x), x)

    assert "`pure_callback`" in refusal(step, X)


def test_shared_arrays_with_a_batch_axis_are_repeated():
    weight = array(B, B)

    def step(x, weight, maps):
        return jnp.einsum("bd,bhd->bh", x @ weight, maps)

    args = X, weight, array(B, 2, D)
    for strategy in ("fold", tdjax.Fold(chunk_size=3)):
        fun = tdjax.time_distributed(step, in_axes=(1, None, None), strategy=strategy)
        try:
            output = fun(*args)
        except tdjax.StrategyError:
            continue
        assert_same(output, loop(step, args, (1, None, None)))
    fun = tdjax.time_distributed(step, in_axes=(1, None, None))
    assert_same(fun(*args), loop(step, args, (1, None, None)))


def test_a_square_weight_is_not_mistaken_for_rows():
    assert refusal(lambda x, w: x @ w, X, array(B, B), in_axes=(1, None)) is None
    assert refusal(lambda x, w: x * w, X, array(B, B), in_axes=(1, None)) is None  # repeated
    assert refusal(lambda x, w: x @ w + w, X, array(B, B), in_axes=(1, None)) is not None


def test_a_mapped_key_is_proven_and_a_shared_one_is_not():
    def step(key, x):
        return x + jax.random.normal(key, x.shape)

    keys = jax.random.split(jax.random.key(0), T)
    assert refusal(step, keys, X, in_axes=(0, 1)) is None
    assert "one key" in refusal(step, keys[0], X, in_axes=(None, 1))
    assert refusal(lambda k, x: step(jax.random.key(0), x), keys, X, in_axes=(0, 1)) is not None


def test_assume_independent_takes_the_callers_word():
    def step(x):
        return x * jnp.asarray(x.shape[0] / x.shape[0], x.dtype)

    assert refusal(lambda x: x * len(x), X) is not None
    fun = tdjax.time_distributed(step, strategy=tdjax.Fold(assume_independent=True))
    assert_same(fun(X), X)
