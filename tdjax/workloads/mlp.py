"""A multi-layer perceptron: matrix products large enough to be worth their weights' reading."""

from __future__ import annotations

from functools import partial
from typing import Any

from tdjax.workloads.workload import Case, Workload, linen_case


def build(quick: bool, sizes: tuple[int, int, int] = (16, 32, 1024)) -> Case:
    """Return four Dense layers with gelu on `sizes`, (batch, time, width); quick: (2, 3, 8)."""
    from flax import linen as nn

    sizes = (2, 3, 8) if quick else sizes

    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for _ in range(4):
                x = nn.gelu(nn.Dense(sizes[-1])(x))
            return x

    return linen_case("mlp", MLP(), sizes)


WORKLOAD = Workload(
    name="mlp",
    title="MLP",
    description="4 x [Dense 1024, gelu] on (16, 32, 1024).",
    build=build,
)
WIDE = Workload(
    name="mlp_wide",
    title="MLP, more rows",
    description="4 x [Dense 1024, gelu] on (32, 64, 1024).",
    build=partial(build, sizes=(32, 64, 1024)),
    unseen=True,
)
NARROW = Workload(
    name="mlp_narrow",
    title="MLP, narrow",
    description="4 x [Dense 256, gelu] on (64, 256, 256).",
    build=partial(build, sizes=(64, 256, 256)),
    unseen=True,
)
