"""ResNet-50 in Flax as far as a detector needs it: bottlenecks and the feature map at stride 16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

_HE = nn.initializers.he_normal()


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut (https://arxiv.org/abs/1512.03385).

    Maps `(batch, height, width, channels)` to `(batch, height/strides, width/strides,
    4 * features)`. The stride sits in the first convolution, as in the paper and in Keras.

    Attributes:
        features: the width of the 3x3 convolution.
        strides: by how much height and width shrink.
        project: whether the shortcut is a 1x1 convolution ("conv block"), not the identity.
        frozen: whether batch normalization uses its stored statistics.
    """

    features: int
    strides: int = 1
    project: bool = False
    frozen: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        wide = 4 * self.features
        y = nn.relu(self._conv_norm("2a", self.features, 1, self.strides)(x))
        y = nn.relu(self._conv_norm("2b", self.features, 3)(y))
        y = self._conv_norm("2c", wide, 1)(y)
        shortcut = self._conv_norm("1", wide, 1, self.strides)(x) if self.project else x
        return nn.relu(y + shortcut)

    def _conv_norm(self, name: str, features: int, size: int, strides: int = 1) -> ConvNorm:
        return ConvNorm(features, size, strides, self.frozen, name=f"branch{name}")


class ConvNorm(nn.Module):
    """A convolution and its batch normalization."""

    features: int
    size: int
    strides: int = 1
    frozen: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, strides = (self.size, self.size), (self.strides, self.strides)
        x = nn.Conv(self.features, kernel, strides, use_bias=False, kernel_init=_HE)(x)
        return nn.BatchNorm(use_running_average=self.frozen, momentum=0.0, epsilon=1e-3)(x)


class Backbone(nn.Module):
    """The stem and stages 2 to 4 of ResNet-50: `(batch, h, w, 3)` to `(batch, h/16, w/16, 1024)`.

    Attributes:
        width: the stem's channels; 64 is ResNet-50.
        stage_sizes: bottlenecks a stage.
        frozen: whether batch normalization uses its stored statistics.
    """

    width: int = 64
    stage_sizes: Sequence[int] = (3, 4, 6)
    frozen: bool = True

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        x = nn.relu(ConvNorm(self.width, 7, 2, self.frozen, name="stem")(image))
        x = nn.max_pool(x, (3, 3), (2, 2), padding="SAME")
        for stage, blocks in enumerate(self.stage_sizes):
            for block in range(blocks):
                first = block == 0
                x = Bottleneck(
                    features=self.width * 2**stage,
                    strides=2 if first and stage > 0 else 1,
                    project=first,
                    frozen=self.frozen,
                    name=f"res{stage + 2}{chr(ord('a') + block)}",
                )(x)
        return x


def calibrated(module: nn.Module, seed: int, x: jax.Array) -> tuple[Any, Any]:
    """Return variables of `module` with its frozen statistics set to those of `x`.

    Random convolutions with statistics (0, 1) would double the variance in each of sixteen
    bottlenecks; pretrained weights come with statistics of real images, and so do these.

    Args:
        module: a module with a field `frozen`.
        seed: for the random convolutions.
        x: one batch, of the shape that `module` takes.

    Returns:
        `{"params": ..., "batch_stats": ...}`, and what `module` makes of `x` with them.
    """
    thawed = module.clone(frozen=False)
    shapes = jax.eval_shape(thawed.init, jax.random.key(0), x)
    rng = np.random.default_rng(seed)
    drawn = jax.tree_util.tree_map_with_path(lambda path, leaf: _initial(rng, path, leaf), shapes)
    output, statistics = jax.jit(lambda v, x: thawed.apply(v, x, mutable="batch_stats"))(drawn, x)
    return {"params": drawn["params"], **statistics}, output


def _initial(rng: np.random.Generator, path: Any, leaf: Any) -> jax.Array:
    # Drawn with NumPy: the same on every device, and XLA would take seconds to compile
    # fifty generators of random numbers.
    if len(leaf.shape) == 4:
        deviation = np.sqrt(2.0 / np.prod(leaf.shape[:-1]))
        return jnp.asarray(rng.standard_normal(leaf.shape, np.float32) * deviation)
    return jnp.full(leaf.shape, float(path[-1].key in ("scale", "var")), leaf.dtype)
