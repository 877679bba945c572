"""A multi-layer perceptron: matrix products large enough to be worth their weights' reading."""

from __future__ import annotations

from typing import Any

from tdjax.workloads._base import Case, Workload


def build(quick: bool) -> Case:
    """Four Dense layers with gelu on (16, 32, 1024); quick: (2, 3, 8)."""
    import jax
    from flax import linen as nn

    batch, time, width = (2, 3, 8) if quick else (16, 32, 1024)

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


WORKLOAD = Workload(
    name="mlp",
    title="MLP",
    description="4 x [Dense 1024, gelu] on (16, 32, 1024).",
    build=build,
)
