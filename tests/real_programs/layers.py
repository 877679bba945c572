"""Layers: norms, convolutions, pooling, embeddings, experts, quantization."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from real_programs.book import (
    Shared,
    array,
    ids,
    needless,
    numbers,
    program,
    rows,
    weights,
)

X = rows(8)
SEQUENCE = rows(7, 4)
IMAGE = rows(6, 6, 4)

# --- norms ------------------------------------------------------------------------------------


@program(X, weights(8), weights(8, seed=2))
def layer_norm(x, scale, bias):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + bias


@program(X, weights(8, 3))
def spectral_norm(x, kernel):
    def power(_, u):
        v = kernel @ u
        u = kernel.T @ (v / jnp.linalg.norm(v))
        return u / jnp.linalg.norm(u)

    u = jax.lax.fori_loop(0, 2, power, jnp.ones(3))
    return x @ kernel / jnp.linalg.norm(kernel @ u)


@program(IMAGE)
def local_response_norm(x):
    window = jax.lax.reduce_window(x * x, 0.0, jax.lax.add, (1, 1, 1, 3), (1, 1, 1, 1), "SAME")
    return x / (1 + 0.1 * window) ** 0.75


@program(X, numbers())
def scaled_by_the_step(x, scale):
    return jnp.tanh(x * scale)


# --- convolutions and windows -----------------------------------------------------------------


def conv(x, kernel, strides=None, padding="SAME", **options):
    rank = x.ndim - 2
    axes = "DHW"[-rank:]
    numbers = ("N" + axes + "C", axes + "IO", "N" + axes + "C")
    strides = strides or (1,) * rank
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=numbers, **options
    )


@program(IMAGE, weights(3, 3, 2, 6))
def grouped_convolution(x, kernel):
    return conv(x, kernel, feature_group_count=2)


@program(IMAGE, weights(3, 3, 1, 4), weights(1, 1, 4, 2))
def separable_convolution(x, depthwise, pointwise):
    return conv(conv(x, depthwise, feature_group_count=4), pointwise)


@program(IMAGE, weights(3, 3, 4, 2))
def transposed_convolution(x, kernel):
    return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME")


@program(rows(4, 4, 4, 2), weights(2, 2, 2, 2, 3))
def convolution_in_three_dimensions(x, kernel):
    return conv(x, kernel, (2, 2, 2), "VALID")


@program(SEQUENCE, rows(3, 4, 2, seed=2))
def convolution_with_each_rows_kernel(x, kernel):
    return jax.vmap(lambda one, own: conv(one[None], own)[0])(x, kernel)


@program(SEQUENCE, rows(3, seed=2))
def filter_of_each_row(x, taps):
    return jax.vmap(lambda one, own: jnp.convolve(one[:, 0], own, mode="same"))(x, taps)


@program(IMAGE)
def pooling(x):
    window, strides = (1, 2, 2, 1), (1, 2, 2, 1)
    largest = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, "VALID")
    mean = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, "VALID") / 4
    return largest, mean, x.max((1, 2)), x.reshape(x.shape[0], 3, 2, 3, 2, 4).mean((2, 4))


@program(IMAGE)
def overlapping_patches(x):
    return jax.lax.conv_general_dilated_patches(
        x, (3, 3), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@program(rows(6, 6, 3))
def windows_that_shift(x):
    """Swin: roll, cut into windows, back again."""
    rolled = jnp.roll(x, (-1, -1), (1, 2)).reshape(x.shape[0], 2, 3, 2, 3, 3)
    windows = rolled.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 9, 3)
    mixed = jax.nn.softmax(windows @ windows.swapaxes(1, 2), -1) @ windows
    back = mixed.reshape(x.shape[0], 2, 2, 3, 3, 3).transpose(0, 1, 3, 2, 4, 5)
    return jnp.roll(back.reshape(x.shape), (1, 1), (1, 2))


# --- embeddings -------------------------------------------------------------------------------


@program(ids(7, below=11), weights(11, 4), ids(7, below=3, seed=1))
def bags_of_words(tokens, table, bags):
    return jax.vmap(lambda words, of: jax.ops.segment_sum(table[words], of, 3))(tokens, bags)


# --- experts ----------------------------------------------------------------------------------

EXPERTS = weights(3, 8, 8)


@program(X, weights(8, 3), EXPERTS)
def experts_gathered(x, router, experts):
    gates, chosen = jax.lax.top_k(jax.nn.softmax(x @ router, -1), 2)
    return jnp.einsum("bk,bd,bkdf->bf", gates, x, experts[chosen])


@program(rows(6, 8), weights(8, 3), EXPERTS)
def switch_with_capacity(x, router, experts):
    """Tokens of a row compete for two places at each expert."""
    gates = jax.nn.softmax(x @ router, -1)
    chosen = jax.nn.one_hot(gates.argmax(-1), 3)
    place = (jnp.cumsum(chosen, 1) - 1) * chosen
    dispatch = chosen[..., None] * jax.nn.one_hot(place.sum(-1).astype(int), 2)[:, :, None]
    taken = jnp.einsum("blec,bld->becd", dispatch, x)
    done = jnp.einsum("becd,edf->becf", taken, experts)
    return jnp.einsum("blec,becf->blf", dispatch * gates[..., None], done)


@program(rows(6, 8), weights(8, 3), EXPERTS)
def experts_that_choose(x, router, experts):
    gates, tokens = jax.lax.top_k(jnp.swapaxes(jax.nn.softmax(x @ router, -1), 1, 2), 2)
    batch = jnp.arange(x.shape[0])[:, None, None]
    done = jnp.einsum("becd,edf->becf", x[batch, tokens], experts) * gates[..., None]
    return jnp.zeros_like(x).at[batch, tokens].add(done)


@program(
    X,
    weights(8, 3),
    EXPERTS,
    expected=needless("a ragged product sorts the tokens of all rows by expert"),
)
def experts_by_ragged_product(x, router, experts):
    chosen = (x @ router).argmax(-1)
    order = jnp.argsort(chosen)
    sizes = jnp.bincount(chosen, length=3)
    return jax.lax.ragged_dot(x[order], experts, sizes)[jnp.argsort(order)]


# --- quantization -----------------------------------------------------------------------------


@program(rows(5, 4), weights(7, 4))
def vector_quantization(x, codebook):
    distance = ((x[..., None, :] - codebook) ** 2).sum(-1)
    nearest = distance.argmin(-1)
    quantized = codebook[nearest]
    return x + jax.lax.stop_gradient(quantized - x), nearest, ((quantized - x) ** 2).mean((1, 2))


@jax.custom_vjp
def rounded(x):
    return jnp.round(x)


rounded.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g,))


@program(X)
def rounded_straight_through(x):
    scale = jnp.abs(x).max(-1, keepdims=True) / 7
    return rounded(x / scale) * scale


@jax.custom_vjp
def binarized(x):
    return jnp.sign(x)


binarized.defvjp(lambda x: (jnp.sign(x), x), lambda x, g: (jnp.where(jnp.abs(x) < 1, g, 0),))


@program(X, weights(8, 3))
def binary_layer(x, kernel):
    return binarized(x) @ binarized(kernel)


@program(X, weights(8, 3))
def whole_number_layer(x, kernel):
    quantized = jnp.clip(jnp.round(x * 16), -127, 127).astype(jnp.int8)
    weights = jnp.clip(jnp.round(kernel * 16), -127, 127).astype(jnp.int8)
    product = jax.lax.dot(quantized, weights, preferred_element_type=jnp.int32)
    return product.astype(jnp.float32) / 256


@program(rows(3), Shared(array(17, 2)))
def hash_grid(x, table):
    """Look corners of a cell up in a table that all rows share."""
    cell, rest = jnp.floor(x * 4).astype(jnp.int32), x * 4 - jnp.floor(x * 4)
    corners = jnp.stack(jnp.meshgrid(*[jnp.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    places = cell[:, None] + corners
    primes = jnp.array([1, 2654435761, 805459861], jnp.uint32)
    hashed = places.astype(jnp.uint32) * primes
    slot = (hashed[..., 0] ^ hashed[..., 1] ^ hashed[..., 2]) % 17
    weight = jnp.where(corners == 1, rest[:, None], 1 - rest[:, None]).prod(-1)
    return (table[slot] * weight[..., None]).sum(1)
