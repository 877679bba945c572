"""What Faster R-CNN runs on every region: stage 5 of ResNet-50 and two Dense layers."""

from __future__ import annotations

import jax
from flax import linen as nn

from tdjax.workloads.faster_rcnn.resnet import Bottleneck


class AveragePool(nn.Module):
    """Means of `size` x `size` cells."""

    size: int

    def __call__(self, x: jax.Array) -> jax.Array:
        window = (self.size, self.size)
        return nn.avg_pool(x, window, window)


class Flatten(nn.Module):
    """`(batch, *features)` to `(batch, prod(features))`."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], -1)


class DenseSoftmax(nn.Module):
    """`Dense(classes, activation="softmax", kernel_initializer="zeros")`, as keras-frcnn has it."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        zeros = nn.initializers.zeros_init()
        return nn.softmax(nn.Dense(self.classes, kernel_init=zeros, name="dense")(x))


class RoIHead(nn.Module):
    """One region's class probabilities and box offsets.

    Maps `(batch, 14, 14, 16 * width)` to `(batch, classes)` and `(batch, 4 * (classes - 1))`;
    the background, the last class, has no box.

    Attributes:
        width: 64 is ResNet-50: 1024 channels in, 512 within.
        classes: how many, the background among them.
        frozen: whether batch normalization uses its stored statistics.
    """

    width: int = 64
    classes: int = 21
    frozen: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = pooled_stage_5(x, self.width, self.frozen)
        zeros = nn.initializers.zeros_init()
        classes = DenseSoftmax(self.classes, name="dense_class")(x)
        offsets = nn.Dense(4 * (self.classes - 1), kernel_init=zeros, name="dense_regress")(x)
        return classes, offsets


def pooled_stage_5(x: jax.Array, width: int, frozen: bool) -> jax.Array:
    """Return `(batch, 32 * width)` features of a region; for use inside a compact method."""
    x = Bottleneck(8 * width, strides=2, project=True, frozen=frozen, name="res5a")(x)
    x = Bottleneck(8 * width, frozen=frozen, name="res5b")(x)
    x = Bottleneck(8 * width, frozen=frozen, name="res5c")(x)
    return Flatten()(AveragePool(7)(x))
