"""The two Dense heads, taught on boxes around the parts of the photograph.

The convolutions stay as they were drawn: a linear classifier on random, normalized features.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from faster_rcnn.parts import BACKGROUND, CLASSES, known_boxes
from flax import linen as nn
from numpy.typing import NDArray

from tdjax.workloads.faster_rcnn.head import DenseSoftmax, pooled_stage_5
from tdjax.workloads.faster_rcnn.proposals import Boxes, anchors

Params = dict[str, Any]


class RoIFeatures(nn.Module):
    """Stage 5, pooled: `(batch, 14, 14, 16 * width)` to `(batch, 32 * width)`.

    What an `RoIHead` has before its Dense layers, of whose variables these are some.
    """

    width: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return pooled_stage_5(x, self.width, frozen=True)


def sample_boxes(height: int, width: int, around: int = 4, elsewhere: int = 80) -> Boxes:
    """Return boxes to learn from: annotations, jittered copies of each, anchors from anywhere.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        around: jittered copies of each annotation.
        elsewhere: how many anchors.

    Returns:
        `(n, 4)` in pixels; the same in every call.
    """
    rng = np.random.default_rng(0)
    known, _ = known_boxes(height, width)
    copies = np.repeat(known, around, axis=0)
    centers = copies[:, :2] + copies[:, 2:] * (0.5 + rng.uniform(-0.12, 0.12, (len(copies), 2)))
    # Mostly larger: a region of interest by edges leaves a margin around what it holds.
    sizes = copies[:, 2:] * np.exp(rng.uniform(-0.15, 0.4, (len(copies), 2)))
    copies = np.concatenate([centers - sizes / 2, sizes], axis=-1)
    drawn = rng.choice(anchors(height, width), elsewhere)
    return np.concatenate([known, copies, drawn]).astype(np.float32)


def train_dense_heads(
    params: Params,
    features: jax.Array,
    labels: NDArray[np.intp],
    targets: NDArray[np.float32],
    steps: int = 200,
) -> tuple[Params, jax.Array]:
    """Minimize the two losses of Fast R-CNN with Adam, as keras-frcnn does.

    Args:
        params: of an `RoIHead`; only `dense_class` and `dense_regress` change.
        features: `(n, channels)`, from `RoIFeatures`.
        labels: `(n,)` classes.
        targets: `(n, 4)` offsets; those of the background are not used.
        steps: how many, each on all boxes.

    Returns:
        The new params, and the loss before each step `(steps,)`.
    """
    dense = {name: params[name] for name in ("dense_class", "dense_regress")}

    @jax.jit
    def descend(dense: Params, *batch: Any) -> tuple[Params, jax.Array]:
        def step(carry: Any, count: jax.Array) -> Any:
            dense, first, second = carry
            loss, slope = jax.value_and_grad(_loss)(dense, *batch)
            first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
            second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, slope)
            dense = jax.tree.map(lambda p, m, v: p - _adam(m, v, count), dense, first, second)
            return (dense, first, second), loss

        zeros = jax.tree.map(jnp.zeros_like, dense)
        counts = jnp.arange(1.0, steps + 1)
        (dense, _, _), losses = jax.lax.scan(step, (dense, zeros, zeros), counts)
        return dense, losses

    dense, losses = descend(dense, features, labels, targets)
    return {**params, **dense}, losses


def _adam(first: jax.Array, second: jax.Array, count: jax.Array) -> jax.Array:
    """Return the step of https://arxiv.org/abs/1412.6980 from its two running moments."""
    mean, square = first / (1 - 0.9**count), second / (1 - 0.999**count)
    return 1e-3 * mean / (jnp.sqrt(square) + 1e-8)


def _loss(dense: Params, features: jax.Array, labels: jax.Array, targets: jax.Array) -> jax.Array:
    """Return cross-entropy, and smooth L1 of the offsets that the right class has."""
    count = features.shape[0]
    variables = {name: {"params": value} for name, value in dense.items()}
    classes: Any = DenseSoftmax(len(CLASSES)).apply(variables["dense_class"], features)
    offsets: Any = nn.Dense(4 * BACKGROUND).apply(variables["dense_regress"], features)
    right = jnp.take_along_axis(classes, labels[:, None], axis=-1)
    distances = jnp.abs(
        offsets.reshape(count, BACKGROUND, 4)[jnp.arange(count), labels % BACKGROUND] - targets
    )
    smooth = jnp.where(distances < 1, 0.5 * distances**2, distances - 0.5).sum(-1)
    boxed = labels != BACKGROUND
    return -jnp.log(right + 1e-8).mean() + jnp.where(boxed, smooth, 0).sum() / boxed.sum()
