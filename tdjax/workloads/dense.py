"""The example of the Keras documentation: one Dense layer on every step."""

from __future__ import annotations

from functools import partial

from tdjax.workloads.workload import Case, Workload, linen_case


def build(quick: bool, sizes: tuple[int, int, int] = (32, 10, 16)) -> Case:
    """Return Dense(64) on `sizes`, (batch, time, features); quick: 2 samples of 10 steps of 16."""
    from flax import linen as nn

    return linen_case("dense", nn.Dense(64), (2, 10, 16) if quick else sizes)


WORKLOAD = Workload(
    name="dense",
    title="Dense",
    description="The Keras documentation's example: Dense(64), (32, 10, 16) -> (32, 10, 64).",
    build=build,
)
WIDE = Workload(
    name="dense_wide",
    title="Dense, more rows",
    description="Dense(64) on (64, 128, 256).",
    build=partial(build, sizes=(64, 128, 256)),
    unseen=True,
)
