"""The example of the Keras documentation: one Dense layer on every step."""

from __future__ import annotations

from functools import partial
from typing import Any

from tdjax.workloads._base import Case, Workload


def build(quick: bool, sizes: tuple[int, int, int] = (32, 10, 16)) -> Case:
    """Dense(64) on `sizes`, (batch, time, features); quick: 2 samples of 10 steps of 16."""
    import jax
    from flax import linen as nn

    layer = nn.Dense(64)
    batch, time, features = (2, 10, 16) if quick else sizes
    x = jax.random.normal(jax.random.key(0), (batch, time, features))
    params = layer.init(jax.random.key(1), x[:, 0])["params"]

    def dense(params: Any, x: jax.Array) -> Any:
        return layer.apply({"params": params}, x)

    return Case(dense, (params, x), in_axes=(None, 1), time_size=time)


WIDE = Workload(
    name="dense_wide",
    title="Dense, more rows",
    description="Dense(64) on (64, 128, 256).",
    build=partial(build, sizes=(64, 128, 256)),
)
WORKLOAD = Workload(
    name="dense",
    title="Dense",
    description="The Keras documentation's example: Dense(64), (32, 10, 16) -> (32, 10, 64).",
    build=build,
)
