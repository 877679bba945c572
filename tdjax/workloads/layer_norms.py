"""Layer normalisations: bound by memory, so blocks that fit the caches pay."""

from __future__ import annotations

from typing import Any

from tdjax.workloads._base import Case, Workload


def build(quick: bool) -> Case:
    """Four LayerNorms with gelu on (256, 16, 512); quick: (2, 3, 8)."""
    import jax
    from flax import linen as nn

    batch, time, width = (2, 3, 8) if quick else (256, 16, 512)

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


WORKLOAD = Workload(
    name="layer_norms",
    title="LayerNorms",
    description="4 x [LayerNorm, gelu] on (256, 16, 512).",
    build=build,
)
