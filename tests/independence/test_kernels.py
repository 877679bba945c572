"""Convolutions with a kernel of each row, windows of signals, and functions on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from all_orders import assert_is_the_loop, doubles
from probing import refusal

import tdjax

B, T = 3, 2
IMAGES = doubles(B, T, 4, 4, 2)
KERNELS = doubles(B, T, 2, 2, 2, 4)
SIGNALS = doubles(B, T, 16)


def convolve(images, kernel, **groups):
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **groups
    )


def twice(image):
    return jnp.stack([image, image * 2])


WITH_KERNELS = {
    "kernel_of_each_row": lambda x, k: jax.vmap(lambda x, k: convolve(x[None], k)[0])(x, k),
    "channels_first": lambda x, k: jax.vmap(
        lambda x, k: jax.lax.conv_general_dilated(
            x.transpose(2, 0, 1)[None], k.transpose(3, 2, 0, 1), (2, 1), "VALID"
        )[0]
    )(x, k),
    "groups": lambda x, k: jax.vmap(
        lambda x, k: convolve(x[None], k[:, :, :1], feature_group_count=2)[0]
    )(x, k),
    "groups_of_the_batch": lambda x, k: jax.vmap(
        lambda x, k: convolve(twice(x), k, batch_group_count=2)
    )(x, k),
    "vmap_in_vmap": lambda x, k: jax.vmap(
        lambda x, k: jax.vmap(lambda x, k: convolve(x[None], k)[0])(twice(x), twice(k))
    )(x, k),
    "vmap_around_vmap": lambda x, k: jax.vmap(
        lambda s: jax.vmap(lambda x, k: convolve(x[None], k)[0] * s)(x * s, k), out_axes=1
    )(jnp.arange(1.0, 3.0, dtype=x.dtype)),
    "gradients_inside": lambda x, k: jax.vmap(
        jax.grad(lambda x, k: jnp.sin(convolve(x[None], k)).sum(), (0, 1))
    )(x, k),
}


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_a_kernel_of_each_row_is_the_loop(name):
    order = 2 if name == "kernel_of_each_row" else 1
    assert_is_the_loop(WITH_KERNELS[name], IMAGES, KERNELS, order=order)


def test_images_that_all_rows_share_meet_a_kernel_of_each_row():
    def step(images, kernels):
        whole = jax.vmap(lambda k: convolve(images, k))(kernels)
        grouped = jax.vmap(lambda k: convolve(images, k[:, :, :1], feature_group_count=2))(kernels)
        return whole, grouped, jax.vmap(lambda k: convolve(images, k, batch_group_count=2))(kernels)

    assert_is_the_loop(step, IMAGES[:2, 0], KERNELS, in_axes=(None, 1), order=1)


def test_groups_of_the_batch_of_each_row_meet_a_shared_kernel():
    def step(images, kernel):
        return jax.vmap(lambda x: convolve(twice(x), kernel, batch_group_count=2))(images)

    assert_is_the_loop(step, IMAGES, KERNELS[0, 0], in_axes=(1, None), order=1)


def test_groups_that_are_not_those_of_the_rows_are_refused():
    def step(images):
        rows, features = images.shape[0], images.shape[-1]
        channels = images.transpose(1, 2, 3, 0).reshape(1, 4, 4, features * rows)
        kernel = jnp.ones((2, 2, features, rows), images.dtype)
        return convolve(channels, kernel, feature_group_count=rows)[0].transpose(2, 0, 1)

    assert "groups that are not those" in refusal(step, jnp.asarray(IMAGES, jnp.float32))


def test_a_short_time_fourier_transform_is_the_loop():
    def step(x):
        _, _, spectrum = jax.scipy.signal.stft(x, nperseg=8)
        _, back = jax.scipy.signal.istft(spectrum, nperseg=8)
        return jnp.abs(spectrum), back, jax.scipy.signal.welch(x, nperseg=8)[1]

    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        assert_is_the_loop(step, SIGNALS, order=1)


def test_a_map_over_features_in_batches_is_the_loop():
    def step(x):
        return jax.lax.map(jnp.sin, x.T, batch_size=3).T

    assert_is_the_loop(step, SIGNALS, order=1)


def on_host(method, function=np.sin):
    def row(x):
        x = x.astype(jnp.float32)  # the threads that call a host function have no other floats
        return jax.pure_callback(
            lambda x: function(np.asarray(x)), jax.typeof(x), x, vmap_method=method
        )

    return row


@pytest.mark.parametrize("method", ["expand_dims", "broadcast_all"])
def test_a_function_on_the_host_that_takes_any_number_of_rows(method):
    strategies = ["fold", tdjax.Fold(chunk_size=5), tdjax.Packed(chunk_size=5)]
    step = jax.vmap(on_host(method))
    assert_is_the_loop(step, SIGNALS, strategies=strategies, order=0)


@pytest.mark.parametrize("step", [on_host("expand_dims"), jax.vmap(on_host("legacy_vectorized"))])
def test_a_function_on_the_host_that_may_mix_rows_is_refused_with_what_to_write(step):
    message = refusal(step, jnp.asarray(SIGNALS, jnp.float32))
    assert "`jax.vmap` of the call, inside the step, with vmap_method" in message


def test_the_proof_of_a_callback_under_vmap_is_not_taken_for_one_without():
    def mixing(x):
        return x - x.mean(-2, keepdims=True)  # for one row, that is over its own axis

    def call(x):
        return jax.pure_callback(mixing, jax.typeof(x), x, vmap_method="expand_dims")

    x = jnp.asarray(IMAGES, jnp.float32)[:, :, 0]
    assert refusal(jax.vmap(call), x) is None
    assert refusal(call, x[..., 0]) is not None
    assert refusal(call, x) is not None


def test_a_callback_that_a_vmap_around_it_leaves_alone_is_refused():
    call = on_host("expand_dims", lambda x: x - x.mean(0))

    def step(x):
        return jax.vmap(lambda scale: scale * call(x), out_axes=1)(jnp.arange(2, dtype=x.dtype))

    assert refusal(step, jnp.asarray(SIGNALS, jnp.float32)) is not None
