"""Strategies that run on every device's own block, beside those that XLA spreads by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tdjax.comparison.verdicts.naming import PARTITIONED


@dataclass(frozen=True)
class Partitioned:
    """A strategy with a partition."""

    strategy: Any
    partition: Any

    def __str__(self) -> str:
        return f"{self.strategy}{PARTITIONED}"


def apart(strategy: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `time_distributed` with a strategy and its partition."""
    if isinstance(strategy, Partitioned):
        return {**options, "strategy": strategy.strategy, "partition": strategy.partition}
    return {**options, "strategy": strategy}


def left_to_xla(partition: Any) -> PartitionSpec | None:
    """Return the partition of strategies that XLA spreads: empty, to ignore shardings in types."""
    return None if partition is None else PartitionSpec()


def put(array: Any, axes: Mapping[int, tuple[int | None, int]], partition: Any) -> Any:
    """Return an array as it lies on the mesh that a partition brings.

    Args:
        array: an argument.
        axes: where batch and time of arguments are, by the identity of those that have time.
        partition: a `NamedSharding`; an array stays where it is under anything else. On a mesh
            without devices, it becomes a description.
    """
    if not isinstance(partition, NamedSharding):
        return array
    batch, time = (*partition.spec, None, None)[:2]
    entries: list[Any] = [None] * array.ndim
    if id(array) in axes:
        batch_axis, time_axis = axes[id(array)]
        entries[time_axis] = time
        if batch_axis is not None:
            entries[batch_axis] = batch
    placed = NamedSharding(partition.mesh, PartitionSpec(*entries))
    if isinstance(partition.mesh, Mesh):
        return jax.device_put(array, placed)
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=placed)


def has_devices(partition: Any) -> bool:
    """Say whether a program can run where a partition says."""
    return not isinstance(partition, NamedSharding) or isinstance(partition.mesh, Mesh)
