"""Layer normalization: bound by memory, so that blocks that fit the caches are faster."""

from __future__ import annotations

from functools import partial
from typing import Any

from tdjax.workloads.workload import Case, Workload, linen_case


def build(quick: bool, sizes: tuple[int, int, int] = (256, 16, 512)) -> Case:
    """Return four LayerNorms with gelu on `sizes`, (batch, time, width); quick: (2, 3, 8)."""
    from flax import linen as nn

    class LayerNorms(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for _ in range(4):
                x = nn.gelu(nn.LayerNorm()(x))
            return x

    return linen_case("layer_norms", LayerNorms(), (2, 3, 8) if quick else sizes)


WORKLOAD = Workload(
    name="layer_norms",
    title="LayerNorms",
    description="4 x [LayerNorm, gelu] on (256, 16, 512).",
    build=build,
)
LONG = Workload(
    name="layer_norms_long",
    title="LayerNorms, longer",
    description="4 x [LayerNorm, gelu] on (64, 256, 512).",
    build=partial(build, sizes=(64, 256, 512)),
    unseen=True,
)
