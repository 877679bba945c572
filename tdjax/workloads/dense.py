"""The example of the Keras documentation: one Dense layer on every step."""

from __future__ import annotations

from typing import Any

from tdjax.workloads._base import Case, Workload


def build(quick: bool) -> Case:
    """32 samples of 10 steps of 16 features; quick: 2 samples."""
    import jax
    from flax import linen as nn

    layer = nn.Dense(64)
    x = jax.random.normal(jax.random.key(0), (2 if quick else 32, 10, 16))
    params = layer.init(jax.random.key(1), x[:, 0])["params"]

    def dense(params: Any, x: jax.Array) -> Any:
        return layer.apply({"params": params}, x)

    return Case(dense, (params, x), in_axes=(None, 1), time_size=10)


WORKLOAD = Workload(
    name="dense",
    title="Dense",
    description="The Keras documentation's example: Dense(64), (32, 10, 16) -> (32, 10, 64).",
    build=build,
)
