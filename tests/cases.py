"""One table of step functions, with arguments, that every strategy's tests run over."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from casebook import CASES, array, case, integers, steps

import tdjax

__all__ = ["BATCH", "CASES", "TIME", "array"]

BATCH, TIME = 4, 3

FRAMES = array(BATCH, TIME, 6)
IMAGES = array(BATCH, TIME, 6, 6, 3)


# --- layers -----------------------------------------------------------------------------------


@case(FRAMES, weights=(array(6, 3), array(3)))
def dense(kernel, bias):
    return lambda x: x @ kernel + bias[None]


@steps({"w": array(6, 4), "v": array(4, 2)}, FRAMES, in_axes=(None, 1))
def mlp(params, x):
    return jax.nn.gelu(x @ params["w"]) @ params["v"]


@case(IMAGES, weights=(array(3, 3, 3, 2),))
def conv_same(kernel):
    return lambda x: jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@case(jnp.moveaxis(IMAGES, -1, 2), weights=(array(4, 3, 2, 2),))
def conv_strided_nchw(kernel):
    return lambda x: jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW")
    )


@case(IMAGES, weights=(array(3, 3, 1, 3),))
def conv_depthwise(kernel):
    return lambda x: jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )


@steps(FRAMES, array(6), in_axes=(1, None))
def layer_norm(x, scale):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale[None]


@steps(FRAMES)
def softmax(x):
    return jax.nn.softmax(x, -1), jax.nn.log_softmax(x, -1)


@case(array(BATCH, TIME, 3, 4), weights=(array(4, 12),))
def attention_over_patches(kernel):
    def step(x):  # (batch, patches, features)
        q, k, v = jnp.split(x @ kernel, 3, axis=-1)
        return jax.nn.softmax(jnp.einsum("bpd,bqd->bpq", q, k), -1) @ v

    return step


@case(array(BATCH, TIME, 3, 2, 4), weights=(array(8, 5),))
def patches_merged_with_batch(kernel):
    def step(x):  # (batch, patches, 2, 4)
        batch, patches = x.shape[:2]
        merged = jnp.tanh(x.reshape(batch * patches, 8) @ kernel)
        return merged.reshape(batch, patches, 5), merged

    return step


@case(array(BATCH, TIME, 7, 3), weights=(array(3, 4), array(4, 4)))
def recurrent_net_inside(inner, recurrent):
    def step(x):  # (batch, letters, features)
        def cell(state, letter):
            state = jnp.tanh(letter @ inner + state @ recurrent)
            return state, state

        start = jnp.zeros((x.shape[0], 4), x.dtype)
        final, states = jax.lax.scan(cell, start, jnp.moveaxis(x, 1, 0))
        return final, jnp.moveaxis(states, 0, 1)

    return step


@steps(IMAGES)
def pools(x):
    window, strides = (1, 2, 2, 1), (1, 2, 2, 1)
    largest = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, "VALID")
    mean = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, "VALID") / 4
    return largest, mean, x.mean((1, 2))


@case(FRAMES, weights=(array(1, 6),))
def class_token(token):
    def step(x):  # (batch, features) -> (batch, 4, 3)
        patches = x.reshape(x.shape[0], 3, 2)
        start = jnp.broadcast_to(token.reshape(1, 3, 2)[:, :1], (x.shape[0], 1, 2))
        return jnp.pad(jnp.concatenate([start, patches], 1), ((0, 0), (0, 0), (0, 1)))

    return step


@steps(array(BATCH, TIME, 4, 4, 1))
def image_resize(x):
    return jax.image.resize(x, (x.shape[0], 6, 3, 1), "bilinear")


# --- arguments and outputs --------------------------------------------------------------------


@steps({"a": FRAMES, "b": (array(BATCH, TIME), array(BATCH, TIME, 6, seed=1))})
def pytrees(tree):
    a, (b, c) = tree["a"], tree["b"]
    return {"sum": a + c, "more": [b * 2, (a * b[:, None], None)]}


@steps(
    FRAMES,
    array(TIME, BATCH, 6, seed=2),
    array(6),
    {"flag": True, "label": "text", "nothing": None},
    in_axes=(1, 0, None, None),
    out_axes=(0, {"y": 2}),
    kwargs={"scale": 3.0},
)
def several_inputs_and_outputs(x, y, shared, options, *, scale):
    assert options["flag"] is True and options["label"] == "text"
    return x * shared[None] * scale, {"y": x - y}


@steps(jnp.moveaxis(FRAMES, 1, 0), in_axes=0, out_axes=0)
def time_first(x):
    return jnp.tanh(x), x.sum(-1)


@steps(array(BATCH, 6, TIME), in_axes=2, out_axes=2)
def time_at_two(x):
    return x * x


@steps(array(BATCH, 2, TIME, 3), in_axes=-2, out_axes=-1)
def negative_axes(x):
    return x.sum(-1, keepdims=True)


@steps(array(BATCH, TIME), out_axes=0)
def scalar_a_step(x):
    return jnp.sin(x)


@steps(FRAMES, array(TIME, seed=1), array(TIME, seed=2), in_axes=(1, 0, 0))
def values_of_one_step(x, scale, shift):
    return jnp.tanh(x * scale + shift), jnp.broadcast_to(scale, x.shape[:1])


@steps(array(7, TIME), FRAMES)
def value_of_one_step_returned(weight, x):
    return x * 2, weight, jnp.sum(weight) * x


@steps(FRAMES, jax.random.split(jax.random.key(0), TIME), in_axes=(1, 0), out_axes=(1, 0))
def keys_a_step(x, key):
    kept = jax.random.bernoulli(key, 0.5, x.shape)
    return jnp.where(kept, x * 2, 0.0) + jax.random.normal(key, (x.shape[0], 1)), key


@steps(FRAMES, jax.random.split(jax.random.key(1), (BATCH, TIME)))
def keys_a_row(x, keys):
    return x + jax.vmap(lambda key: jax.random.normal(key, (6,)))(keys), keys


@steps(array(BATCH, TIME, 4), array(4, 4), in_axes=(1, None))
def square_weight_of_batch_size(x, weight):
    return x @ weight


@steps(array(BATCH, TIME, 2), array(BATCH, 5, 3), in_axes=(1, None))
def shared_feature_map(box, features):
    place = jax.nn.softmax(box.sum(-1, keepdims=True) * jnp.arange(5.0)[None], -1)
    return jnp.einsum("bp,bpd->bd", place, features)


@steps(array(6), FRAMES, in_axes=(None, 1), out_axes=(None, 1, 0))
def shared_output(shared, x):
    return shared * 2, x * shared[None], jnp.float32(1.5)


@case(FRAMES, weights=(array(BATCH, 6),), folds=False)
def closed_over_rows(rows):
    return lambda x: x + rows


@steps(FRAMES)
def outputs_without_rows(x):
    return x, jnp.arange(3.0), None


# --- dtypes -----------------------------------------------------------------------------------


@steps(
    array(BATCH, TIME, 6, dtype=jnp.bfloat16), array(6, 3, dtype=jnp.bfloat16), in_axes=(1, None)
)
def bfloat16(x, kernel):
    return jax.nn.relu(x @ kernel)


@steps(integers(BATCH, TIME, 3, below=7))
def integers_and_bools(x):
    return x // 2 + x % 3, x > 3, jnp.bitwise_xor(x, 5), jnp.any(x > 5, -1)


@steps(array(BATCH, TIME, 6) + 1j * array(BATCH, TIME, 6, seed=1))
def complex_numbers(x):
    return x * jnp.conj(x) + 1j, jnp.abs(x), jnp.real(x)


@steps(array(BATCH, TIME, 8))
def fourier(x):
    return jnp.abs(jnp.fft.rfft(x)) + 1, jnp.fft.fft(x, axis=-1)


# --- reading, sorting -------------------------------------------------------------------------


@case(integers(BATCH, TIME, 3, below=9), weights=(array(9, 5),))
def embedding(table):
    return lambda ids: (table[ids], jax.nn.one_hot(ids, 9) @ table)


@steps(FRAMES, integers(BATCH, TIME, 2, below=6))
def take_along_axis(x, where):
    return jnp.take_along_axis(x, where, axis=-1)


@steps(FRAMES)
def sorted_rows(x):
    return jnp.sort(x, -1), jnp.argsort(x, -1), jax.lax.top_k(x, 2)[0], jnp.argmax(x, -1)


@steps(FRAMES)
def cumulative(x):
    return jnp.cumsum(x, -1), jax.lax.cumsum(x, axis=1, reverse=True)


@steps(array(BATCH, TIME, 6, 2), jnp.int32(2), in_axes=(1, None))
def slices(x, start):
    zero = jnp.zeros_like(start)
    piece = jax.lax.dynamic_slice_in_dim(x, start, 3, 1)
    placed = jax.lax.dynamic_update_slice_in_dim(x, piece * 2, zero, 1)
    return piece, placed, x[:, 1:5:2], x[:, 0], jnp.flip(x, 1)


@steps(FRAMES)
def writes_in_place(x):
    return x.at[:, jnp.array([0, 3, 3])].add(1.0), x.at[:, 1:3].multiply(2.0)


# --- control flow, derivatives ----------------------------------------------------------------


@steps(FRAMES, jnp.array(True), in_axes=(1, None))
def cond_shared(x, flag):
    return jax.lax.cond(flag, lambda y: y * 2, lambda y: jnp.tanh(y), x)


@steps(FRAMES)
def branch_a_row(x):
    branches = [lambda row: row, lambda row: row * 2, lambda row: -row]
    return jax.vmap(lambda row: jax.lax.switch(jnp.argmax(row) % 3, branches, row))(x)


@steps(FRAMES)
def loops(x):
    powers = jax.lax.fori_loop(0, 3, lambda _, y: jnp.sin(y) * x, x)
    return powers, jax.lax.scan(lambda c, _: (c * 0.5 + x, ()), x, None, length=4)[0]


@steps(integers(BATCH, TIME, below=9), jnp.int32(3), in_axes=(1, None))
def while_shared(x, count):
    return jax.lax.while_loop(
        lambda c: c[0] < count, lambda c: (c[0] + 1, c[1] * 2), (0 * count, x)
    )[1]


@case(FRAMES, weights=(array(6, 6),))
def remat_and_jit_inside(kernel):
    @jax.jit
    def inner(x):
        return jax.checkpoint(lambda y: jnp.tanh(y @ kernel))(x)

    return lambda x: inner(inner(x))


@jax.custom_jvp
def softsign(x):
    return x / (1 + jnp.abs(x))


@softsign.defjvp
def _softsign_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return softsign(x), t / (1 + jnp.abs(x)) ** 2


@steps(FRAMES)
def custom_jvp(x):
    return softsign(x) + jax.nn.relu(x)


@jax.custom_vjp
def clipped_gradient(x):
    return x * 3


clipped_gradient.defvjp(lambda x: (x * 3, None), lambda _, g: (jnp.clip(g * 3, -1.0, 1.0),))


@steps(FRAMES)
def custom_vjp(x):
    return clipped_gradient(x)


@case(array(BATCH, TIME, 3, 6), weights=(array(6, 2),))
def nested_time_distributed(kernel):
    return tdjax.time_distributed(lambda x: jnp.tanh(x @ kernel))


@steps(array(BATCH, TIME, 3, 3))
def linear_algebra(x):
    matrix = x @ jnp.swapaxes(x, -1, -2) + 3 * jnp.eye(3)[None]
    return jnp.linalg.cholesky(matrix), jnp.linalg.norm(x, axis=(-2, -1))


@steps(FRAMES)
def transposed(x):
    return x.T, x.reshape(-1, 2), x.reshape(x.shape[0], 2, 3).transpose(2, 0, 1)


# --- rows that depend on each other -----------------------------------------------------------


@steps(FRAMES, folds=False)
def divided_by_batch(x):
    return x.sum(-1) / x.shape[0]


@steps(FRAMES, folds=False)
def numbered_rows(x):
    return x + jnp.arange(x.shape[0], dtype=x.dtype)[:, None]


@steps(FRAMES, folds=False)
def centred(x):
    return x - x.mean(0, keepdims=True)


@steps(FRAMES, folds=False)
def softmax_over_batch(x):
    return jax.nn.softmax(x, 0)


@steps(FRAMES, folds=False)
def cumsum_over_batch(x):
    return jnp.cumsum(x, 0)


@steps(FRAMES, folds=False)
def rolled(x):
    return jnp.roll(x, 1, 0)


@steps(FRAMES, folds=False)
def reversed_batch(x):
    return x[::-1]


@steps(FRAMES, folds=False)
def outer_product(x):
    return x @ x.T


@steps(FRAMES, jax.random.key(3), in_axes=(1, None), folds=False)
def noise_from_one_key(x, key):
    return x + jax.random.normal(key, x.shape)


@steps(FRAMES, folds=False)
def asks_for_int(x):
    return x - x.mean(0, keepdims=True) if isinstance(x.shape[0], int) else x


@steps(FRAMES, folds=False)
def asks_for_its_batch(x):
    return x * 2 if x.shape[0] == BATCH else x
