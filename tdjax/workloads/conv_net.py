"""A small convolutional network on every frame of a clip, with BatchNorm in evaluation."""

from __future__ import annotations

from functools import partial
from typing import Any

from tdjax.workloads.workload import Case, Workload, linen_case


def build(quick: bool, sizes: tuple[int, int, int, int] = (2, 16, 28, 64)) -> Case:
    """Return three [Conv 3x3, BatchNorm, relu] on `sizes`, (batch, time, side, channels).

    Quick: (2, 3, 6, 4).
    """
    from flax import linen as nn

    batch, time, side, channels = (2, 3, 6, 4) if quick else sizes

    class ConvNet(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for _ in range(3):
                x = nn.Conv(channels, (3, 3), use_bias=False)(x)
                x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
            return x

    return linen_case("conv_net", ConvNet(), (batch, time, side, side, channels))


WORKLOAD = Workload(
    name="conv_net",
    title="Conv net",
    description="3 x [Conv 3x3x64, BatchNorm in evaluation, relu] on (2, 16, 28, 28, 64).",
    build=build,
)
WIDE = Workload(
    name="conv_net_wide",
    title="Conv net, more frames",
    description="3 x [Conv 3x3x64, BatchNorm in evaluation, relu] on (4, 16, 28, 28, 64).",
    build=partial(build, sizes=(4, 16, 28, 64)),
    unseen=True,
)
LARGE = Workload(
    name="conv_net_large",
    title="Conv net, larger frames",
    description="3 x [Conv 3x3x64, BatchNorm in evaluation, relu] on (4, 16, 56, 56, 64).",
    build=partial(build, sizes=(4, 16, 56, 64)),
    unseen=True,
)
