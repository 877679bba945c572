"""A vision transformer's block on every frame: attention within a frame, never between frames."""

from __future__ import annotations

from functools import partial
from typing import Any

from tdjax.workloads.workload import Case, Workload, linen_case


def build(quick: bool, batch: int = 4, tokens: int = 64) -> Case:
    """Return one pre-norm block on (batch, 8, tokens, 256), 8 heads; quick: (2, 3, 4, 8), 2."""
    from flax import linen as nn

    sizes = (2, 3, 4, 8) if quick else (batch, 8, tokens, 256)
    width, heads = sizes[-1], 2 if quick else 8

    class ViTBlock(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            attention = nn.MultiHeadDotProductAttention(heads, deterministic=True)
            x = x + attention(nn.LayerNorm()(x))
            y = nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x)))
            return x + nn.Dense(width)(y)

    return linen_case("vit_block", ViTBlock(), sizes)


WORKLOAD = Workload(
    name="vit_block",
    title="ViT block",
    description="LayerNorm, 8-head attention, MLP on 64 tokens of 256 a frame, (4, 8, 64, 256).",
    build=build,
)
LARGE = Workload(
    name="vit_block_large",
    title="ViT block, larger frames",
    description="LayerNorm, 8-head attention, MLP on 196 tokens of 256 a frame, (8, 8, 196, 256).",
    build=partial(build, batch=8, tokens=196),
    unseen=True,
)
