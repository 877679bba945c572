"""A vision transformer's block on every frame: attention within a frame, never between frames."""

from __future__ import annotations

from functools import partial
from typing import Any

from tdjax.workloads._base import Case, Workload


def build(quick: bool, batch: int = 4, tokens: int = 64) -> Case:
    """One pre-norm block on (batch, 8, tokens, 256), 8 heads; quick: (2, 3, 4, 8), 2 heads."""
    import jax
    from flax import linen as nn

    time, width, heads = (3, 8, 2) if quick else (8, 256, 8)
    batch, tokens = (2, 4) if quick else (batch, tokens)

    class ViTBlock(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            attention = nn.MultiHeadDotProductAttention(heads, deterministic=True)
            x = x + attention(nn.LayerNorm()(x))
            y = nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x)))
            return x + nn.Dense(width)(y)

    module = ViTBlock()
    x = jax.random.normal(jax.random.key(0), (batch, time, tokens, width))
    params = jax.jit(module.init)(jax.random.key(1), x[:, 0])["params"]

    def vit_block(params: Any, x: jax.Array) -> Any:
        return module.apply({"params": params}, x)

    return Case(vit_block, (params, x), in_axes=(None, 1), time_size=time)


LARGE = Workload(
    name="vit_block_large",
    title="ViT block, larger frames",
    description="LayerNorm, 8-head attention, MLP on 196 tokens of 256 a frame, (8, 8, 196, 256).",
    build=partial(build, batch=8, tokens=196),
)
WORKLOAD = Workload(
    name="vit_block",
    title="ViT block",
    description="LayerNorm, 8-head attention, MLP on 64 tokens of 256 a frame, (4, 8, 64, 256).",
    build=build,
)
