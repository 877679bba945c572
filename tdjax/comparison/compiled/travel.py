"""A function packed for another process: lowered for a platform that need not be here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax import export


@dataclass(frozen=True)
class Parcel:
    """A lowered program.

    Attributes:
        program: the serialised export. It keeps the names of the operations and the Python
            lines that they come from.
        trace_s, lower_s: seconds of each stage.
        operations: how many equations were lowered: how long compiling may take.
    """

    program: bytes
    trace_s: float
    lower_s: float
    operations: int


def pack(function: Callable[..., Any], arguments: Sequence[Any], platform: str) -> Parcel:
    """Trace and lower `function(*arguments)` for a platform.

    Arrays that are spread over several devices keep their shardings.
    """
    shapes = jax.tree.map(_shape, tuple(arguments))
    jitted = jax.jit(function)
    start = time.perf_counter()
    traced = jitted.trace(*shapes)
    traced_at = time.perf_counter()
    exported = export.export(jitted, platforms=[platform])(*shapes)
    program = bytes(exported.serialize())
    lowered_at = time.perf_counter()
    operations = _operations(traced.jaxpr)
    return Parcel(program, traced_at - start, lowered_at - traced_at, operations)


def _shape(array: Any) -> jax.ShapeDtypeStruct:
    spread = isinstance(array, jax.Array) and len(array.sharding.device_set) > 1
    sharding = array.sharding if spread else None
    weak = getattr(array, "weak_type", False)
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding, weak_type=weak)


def _operations(program: Any) -> int:
    """Count equations, those of inner programs included."""
    eqns = getattr(program, "eqns", None)
    if eqns is None:
        return 0
    inner = (value for eqn in eqns for value in eqn.params.values())
    each = (part for value in inner for part in (value if isinstance(value, tuple) else (value,)))
    return len(eqns) + sum(_operations(part) for part in each)
