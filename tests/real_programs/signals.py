"""Images and sounds: resizing, warping, Fourier transforms, filters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy import signal
from jax.scipy.ndimage import map_coordinates

from real_programs.book import positive, program, rows, weights

IMAGE = rows(5, 6, 2)
SOUND = rows(32)


@program(IMAGE)
def resized_to_the_nearest(x):
    return jax.image.resize(x, (x.shape[0], 8, 4, 2), "nearest")


@program(IMAGE)
def resized_linearly(x):
    return jax.image.resize(x, (x.shape[0], 8, 4, 2), "linear")


@program(IMAGE)
def resized_by_lanczos(x):
    small = jax.image.resize(x, (x.shape[0], 3, 4, 2), "lanczos3")
    return small, jax.image.resize(x, (x.shape[0], 9, 7, 2), "lanczos5", antialias=False)


@program(IMAGE)
def scaled_and_moved(x):
    shape, scale = (x.shape[0], 7, 7, 2), jnp.array([1.3, 0.9])
    return jax.image.scale_and_translate(x, shape, (1, 2), scale, jnp.array([0.5, 1.0]), "linear")


@program(rows(5, 6), rows(2, seed=1))
def moved_by_each_rows_offset(x, offset):
    grid = jnp.stack(jnp.meshgrid(jnp.arange(5.0), jnp.arange(6.0), indexing="ij"))

    def move(image, by):
        return map_coordinates(image, grid + by[:, None, None], order=1, mode="nearest")

    return jax.vmap(move)(x, offset)


def sample(images, places):
    """Read images `(batch, height, width, channels)` at places between their pixels."""
    height, width = images.shape[1:3]
    batch = jnp.arange(images.shape[0])[:, None]
    y, x = places[..., 0], places[..., 1]
    low_y, low_x = jnp.floor(y).astype(jnp.int32), jnp.floor(x).astype(jnp.int32)
    total = 0
    for dy in (0, 1):
        for dx in (0, 1):
            at_y, at_x = low_y + dy, low_x + dx
            weight = (1 - jnp.abs(y - at_y)) * (1 - jnp.abs(x - at_x))
            inside = (at_y >= 0) & (at_y < height) & (at_x >= 0) & (at_x < width)
            pixels = images[batch, jnp.clip(at_y, 0, height - 1), jnp.clip(at_x, 0, width - 1)]
            total = total + pixels * jnp.where(inside, weight, 0)[..., None]
    return total


@program(IMAGE, positive(7, 2))
def sampled_between_pixels(x, places):
    return sample(x, places)


@program(positive(7), rows(6, seed=1))
def interpolated_in_each_rows_table(x, table):
    return jax.vmap(lambda one, own: jnp.interp(one, jnp.linspace(0, 3, 6), own))(x, table)


@program(rows(8, 3), weights(3, 3, 2), weights(3, 3, 2, seed=2))
def fourier_neural_operator(x, real, imaginary):
    modes = jnp.fft.rfft(x, axis=1)[:, :2]
    mixed = jnp.einsum("bkc,cdk->bkd", modes, real + 1j * imaginary)
    return jnp.fft.irfft(jnp.pad(mixed, ((0, 0), (0, 3), (0, 0))), 8, axis=1)


@program(SOUND)
def short_time_fourier_transform(x):
    return jnp.abs(signal.stft(x, nperseg=8)[2])


@program(SOUND)
def there_and_back_by_short_time_transforms(x):
    transformed = signal.stft(x, nperseg=8)[2]
    return signal.istft(transformed, nperseg=8)[1]


@program(SOUND, weights(5, 4))
def mel_spectrogram(x, filters):
    starts = jnp.arange(0, 25, 4)[:, None] + jnp.arange(8)
    frames = x[:, starts] * jnp.hanning(8)
    return jnp.log(jnp.abs(jnp.fft.rfft(frames)) @ jnp.abs(filters) + 1e-3)


@program(rows(8))
def cosine_transform(x):
    return jax.scipy.fft.dct(x, norm="ortho"), jax.scipy.fft.idct(x, norm="ortho")


@program(SOUND)
def power_density(x):
    return signal.welch(x, nperseg=8)[1]


@program(SOUND, weights(32))
def filtered_by_fourier_transforms(x, taps):
    return jax.vmap(lambda one: signal.fftconvolve(one, taps, mode="same"))(x)
