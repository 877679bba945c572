"""A small convolutional network on every frame of a clip, with BatchNorm in evaluation."""

from __future__ import annotations

from functools import partial
from typing import Any

from tdjax.workloads._base import Case, Workload


def build(quick: bool, sizes: tuple[int, int, int, int] = (2, 16, 28, 64)) -> Case:
    """Three [Conv 3x3, BatchNorm, relu] on `sizes`, (batch, time, side, channels).

    Quick: (2, 3, 6, 6, 4).
    """
    import jax
    from flax import linen as nn

    batch, time, side, channels = (2, 3, 6, 4) if quick else sizes

    class ConvNet(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for _ in range(3):
                x = nn.Conv(channels, (3, 3), use_bias=False)(x)
                x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
            return x

    module = ConvNet()
    x = jax.random.normal(jax.random.key(0), (batch, time, side, side, channels))
    variables = jax.jit(module.init)(jax.random.key(1), x[:, 0])
    statistics = variables["batch_stats"]

    def conv_net(params: Any, x: jax.Array) -> Any:
        return module.apply({"params": params, "batch_stats": statistics}, x)

    return Case(conv_net, (variables["params"], x), in_axes=(None, 1), time_size=time)


WIDE = Workload(
    name="conv_net_wide",
    title="Conv net, more frames",
    description="3 x [Conv 3x3x64, BatchNorm in evaluation, relu] on (4, 16, 28, 28, 64).",
    build=partial(build, sizes=(4, 16, 28, 64)),
)
LARGE = Workload(
    name="conv_net_large",
    title="Conv net, larger frames",
    description="3 x [Conv 3x3x64, BatchNorm in evaluation, relu] on (4, 16, 56, 56, 64).",
    build=partial(build, sizes=(4, 16, 56, 64)),
)
WORKLOAD = Workload(
    name="conv_net",
    title="Conv net",
    description="3 x [Conv 3x3x64, BatchNorm in evaluation, relu] on (2, 16, 28, 28, 64).",
    build=build,
)
