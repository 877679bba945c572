"""A multi-layer perceptron: matrix products large enough to be worth their weights' reading."""

from __future__ import annotations

from functools import partial
from typing import Any

from tdjax.workloads._base import Case, Workload


def build(quick: bool, sizes: tuple[int, int, int] = (16, 32, 1024)) -> Case:
    """Four Dense layers with gelu on `sizes`, (batch, time, width); quick: (2, 3, 8)."""
    import jax
    from flax import linen as nn

    batch, time, width = (2, 3, 8) if quick else sizes

    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for _ in range(4):
                x = nn.gelu(nn.Dense(width)(x))
            return x

    module = MLP()
    x = jax.random.normal(jax.random.key(0), (batch, time, width))
    params = jax.jit(module.init)(jax.random.key(1), x[:, 0])["params"]

    def mlp(params: Any, x: jax.Array) -> Any:
        return module.apply({"params": params}, x)

    return Case(mlp, (params, x), in_axes=(None, 1), time_size=time)


WIDE = Workload(
    name="mlp_wide",
    title="MLP, more rows",
    description="4 x [Dense 1024, gelu] on (32, 64, 1024).",
    build=partial(build, sizes=(32, 64, 1024)),
)
NARROW = Workload(
    name="mlp_narrow",
    title="MLP, narrow",
    description="4 x [Dense 256, gelu] on (64, 256, 256).",
    build=partial(build, sizes=(64, 256, 256)),
)
WORKLOAD = Workload(
    name="mlp",
    title="MLP",
    description="4 x [Dense 1024, gelu] on (16, 32, 1024).",
    build=build,
)
