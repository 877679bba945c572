"""A function packed for another process: lowered for a platform that need not be attached."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax import export
from jax.sharding import NamedSharding

from tdjax.core.jaxpr import count_equations


@dataclass(frozen=True)
class Parcel:
    """A lowered program.

    Attributes:
        program: the serialized export. It keeps the names of the operations and the Python
            lines that they come from.
        trace_s, lower_s: seconds of each stage.
        mesh: names, sizes and types of the axes of its arrays' mesh; None where they are on one
            device.
        operations: how many equations were lowered: how long compiling may take.
    """

    program: bytes
    mesh: tuple[tuple[str, int, str], ...] | None
    trace_s: float
    lower_s: float
    operations: int


def pack(function: Callable[..., Any], arguments: Sequence[Any], platform: str) -> Parcel:
    """Trace and lower `function(*arguments)` for a platform.

    Arrays on several devices keep their shardings.
    """
    shapes = jax.tree.map(_shape, tuple(arguments))
    jitted = jax.jit(function)
    start = time.perf_counter()
    traced = jitted.trace(*shapes)
    traced_at = time.perf_counter()
    exported = export.export(jitted, platforms=[platform])(*shapes)
    program = bytes(exported.serialize())
    lowered_at = time.perf_counter()
    mesh = next(filter(None, map(_mesh, jax.tree.leaves(shapes))), None)
    return Parcel(
        program, mesh, traced_at - start, lowered_at - traced_at, count_equations(traced.jaxpr)
    )


def _shape(array: Any) -> jax.ShapeDtypeStruct:
    placed = getattr(array, "sharding", None)
    sharding = placed if placed is not None and placed.num_devices > 1 else None
    weak = getattr(array, "weak_type", False)
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding, weak_type=weak)


def _mesh(shape: jax.ShapeDtypeStruct) -> tuple[tuple[str, int, str], ...] | None:
    if not isinstance(shape.sharding, NamedSharding):
        return None
    mesh = shape.sharding.mesh
    types = [kind.name for kind in mesh.axis_types]
    return tuple(zip(mesh.axis_names, mesh.axis_sizes, types, strict=True))
