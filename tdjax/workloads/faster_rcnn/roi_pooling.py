"""RoI pooling as in keras-frcnn: crop a box out of the feature map and resize it."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def pool_roi(feature_map: jax.Array, box: jax.Array, size: int = 14) -> jax.Array:
    """Crop one box an image and resize it bilinearly to `size` x `size`.

    One step of a distribution over boxes; the feature map is shared by all of them:
    `time_distributed(pool_roi, in_axes=(None, 1))(feature_map, boxes)`.

    The box is an argument, so its size is not a shape: rather than sliced, the crop is written
    as two small matrices of interpolation weights, one for rows and one for columns.

    Args:
        feature_map: `(batch, height, width, channels)`.
        box: `(batch, 4)`: x, y, width and height in cells of the feature map.
        size: the side of the result.

    Returns:
        `(batch, size, size, channels)`.

    Example:
        >>> import jax.numpy as jnp
        >>> pool_roi(jnp.ones((1, 38, 32, 8)), jnp.array([[4.0, 2.0, 10.0, 6.0]])).shape
        (1, 14, 14, 8)
    """
    _, height, width, _ = feature_map.shape
    x, y, w, h = jnp.split(box, 4, axis=-1)
    rows = _interpolation(y, h, height, size)
    columns = _interpolation(x, w, width, size)
    return jnp.einsum("bph,bhwc,bqw->bpqc", rows, feature_map, columns)


def _interpolation(start: jax.Array, extent: jax.Array, cells: int, size: int) -> jax.Array:
    """Return bilinear weights `(batch, size, cells)` of samples over `[start, start + extent)`."""
    samples = start + (jnp.arange(size) + 0.5) * extent / size - 0.5
    inside = jnp.clip(samples, start, jnp.maximum(start, start + extent - 1))
    inside = jnp.clip(inside, 0, cells - 1)
    return jnp.maximum(0.0, 1.0 - jnp.abs(inside[..., None] - jnp.arange(cells)))
