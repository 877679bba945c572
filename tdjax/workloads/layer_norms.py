"""Layer normalisations: bound by memory, so blocks that fit the caches pay."""

from __future__ import annotations

from functools import partial
from typing import Any

from tdjax.workloads._base import Case, Workload


def build(quick: bool, sizes: tuple[int, int, int] = (256, 16, 512)) -> Case:
    """Four LayerNorms with gelu on `sizes`, (batch, time, width); quick: (2, 3, 8)."""
    import jax
    from flax import linen as nn

    batch, time, width = (2, 3, 8) if quick else sizes

    class LayerNorms(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for _ in range(4):
                x = nn.gelu(nn.LayerNorm()(x))
            return x

    module = LayerNorms()
    x = jax.random.normal(jax.random.key(0), (batch, time, width))
    params = module.init(jax.random.key(1), x[:, 0])["params"]

    def layer_norms(params: Any, x: jax.Array) -> Any:
        return module.apply({"params": params}, x)

    return Case(layer_norms, (params, x), in_axes=(None, 1), time_size=time)


LONG = Workload(
    name="layer_norms_long",
    title="LayerNorms, longer",
    description="4 x [LayerNorm, gelu] on (64, 256, 512).",
    build=partial(build, sizes=(64, 256, 512)),
)
WORKLOAD = Workload(
    name="layer_norms",
    title="LayerNorms",
    description="4 x [LayerNorm, gelu] on (256, 16, 512).",
    build=build,
)
