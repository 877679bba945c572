"""The meshes that tests run on, and what a program sends between their devices."""

import re

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


def make(kind, **sizes) -> Mesh:
    """Return a mesh of automatic or explicit axes over as many CPU devices as it takes."""
    count = 1
    for size in sizes.values():
        count *= size
    types = ({"auto": AxisType.Auto, "explicit": AxisType.Explicit}[kind],) * len(sizes)
    return jax.make_mesh(
        tuple(sizes.values()), tuple(sizes), axis_types=types, devices=jax.devices()[:count]
    )


def put(mesh, array, *spec):
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))


def compiled(function, *args):
    return jax.jit(function).lower(*args).compile()


def collectives(program) -> dict[str, int]:
    """Return how often each collective stands in a compiled program; those that do not are out."""
    text = program.as_text()
    found = {name: len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES}
    return {name: count for name, count in found.items() if count}
