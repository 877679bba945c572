"""Which axes of which mesh the batch and the steps of a call are spread over.

`PartitionSpec("data", "seq")` on a mesh `(data=2, seq=4)` divides batch and time into 2 x 4 blocks,
one for each device. With 6 rows and 8 steps, axes of arrays are divided by what they mean:

    array                shape      spec               device (d, s) holds
    frames               (6, 8, 5)  P("data", "seq")   rows 3d to 3d + 2, steps 2s and 2s + 1
    a key for each step  (8,)       P("seq")           steps 2s and 2s + 1
    a map for each row   (6, 7)     P("data", None)    rows 3d to 3d + 2
    weights              (5, 4)     P(None, None)      everything

Features are never divided, so a block is a call like the whole one, only smaller. All blocks have
the same size, because `jax.shard_map` runs one program on all devices. A batch of 7 is therefore an
error; its message says to pad to 8 and to give a mask, which keeps padding out of every result.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from tdjax.core.arrays import is_symbolic
from tdjax.core.call import Call
from tdjax.core.errors import describe

Names = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Placement:
    """Which part of batch and time each device of a mesh holds.

    Attributes:
        mesh: the devices.
        batch: the mesh axes that the batch is spread over.
        time: the mesh axes that the steps are spread over.
    """

    mesh: Mesh | AbstractMesh
    batch: Names
    time: Names

    @property
    def names(self) -> Names:
        """The mesh axes that are named; the others stay automatic."""
        return self.batch + self.time

    @property
    def batch_blocks(self) -> int:
        """The number of blocks that the batch is divided into."""
        return math.prod(self.mesh.shape[name] for name in self.batch)

    @property
    def time_blocks(self) -> int:
        """The number of blocks that the steps are divided into."""
        return math.prod(self.mesh.shape[name] for name in self.time)

    @property
    def local(self) -> AbstractMesh:
        """The mesh as a block sees it: named axes are manual, all others automatic."""
        kinds = dict.fromkeys(self.mesh.axis_names, AxisType.Auto)
        return self.mesh.abstract_mesh.update_axis_types(
            {**kinds, **dict.fromkeys(self.names, AxisType.Manual)}
        )

    @property
    def others(self) -> Names:
        """The explicit mesh axes that are not named."""
        return tuple(
            name for name in self.mesh.abstract_mesh.explicit_axes if name not in self.names
        )

    @property
    def explicit(self) -> bool:
        """Whether the types of arrays name the mesh axes that they are spread over."""
        return any(kind is AxisType.Explicit for kind in self.mesh.axis_types)

    def spec(self, rank: int, batch_axis: int | None, time_axis: int | None) -> PartitionSpec:
        """Return the spec of an array whose batch and time are at these axes, if it has them."""
        entries: list[Any] = [None] * rank
        for axis, names in ((batch_axis, self.batch), (time_axis, self.time)):
            if axis is not None and names:
                entries[axis] = names if len(names) > 1 else names[0]
        return PartitionSpec(*entries)


def check_partition(partition: Any) -> None:
    """Raise unless it is None, or names mesh axes for batch and time and nothing else."""
    if partition is None:
        return
    spec = partition.spec if isinstance(partition, NamedSharding) else partition
    if not isinstance(spec, PartitionSpec):
        raise TypeError(
            f"partition is {partition!r} ({type(partition).__name__}); it must be "
            f'jax.sharding.PartitionSpec(batch, time), as in PartitionSpec("data", "seq"), with '
            f"the names of mesh axes or None."
        )
    for axis, entry in enumerate(spec):
        if not all(isinstance(name, str) for name in entry_names(entry)):
            raise TypeError(f"partition is {spec}; {entry!r} is not the name of a mesh axis.")
        if axis > 1 and entry_names(entry):
            raise ValueError(
                f"partition is {spec}, which names {entry!r} for axis {axis}, a feature axis; it "
                f"says how (batch, time) are spread, and nothing else. Leave it out: mesh axes "
                f"that are not named stay automatic, and split features as the arrays are split."
            )


def find_placement(call: Call, partition: Any) -> Placement | None:
    """Return how a call is spread over a mesh; None if it is not.

    Without a partition, it is read from the types of the arguments, if the mesh is explicit.

    Raises:
        ValueError: there is no such mesh or axis, or a size that does not divide.
    """
    if partition is None:
        found = _read_types(call)
    else:
        spec = partition.spec if isinstance(partition, NamedSharding) else partition
        batch, time = (*map(entry_names, spec), (), ())[:2]
        if not batch and not time:
            return None
        _check_outside_of_blocks(spec)
        mesh = partition.mesh if isinstance(partition, NamedSharding) else _find_mesh(call, spec)
        found = Placement(mesh, batch, time)
        _check_names(found, spec)
    if found is not None:
        _check_sizes(call, found)
    return found


def entry_names(entry: Any) -> tuple[Any, ...]:
    """Return the mesh axes that one entry of a PartitionSpec names."""
    if entry is None:
        return ()
    return tuple(entry) if isinstance(entry, tuple) else (entry,)


def _mapped(call: Call) -> Iterator[tuple[str, Any, int | None, int]]:
    """Yield each leaf that has time: its name, the leaf, its batch axis and its time axis."""
    for index, role in enumerate(call.roles):
        if role in ("rows", "step"):
            axis = call.time_axis(index)
            batch_axis = (0 if axis else 1) if role == "rows" else None
            yield call.names[index], call.leaves[index], batch_axis, axis


def _read_types(call: Call) -> Placement | None:
    """Return the placement that the arguments' types name; automatic meshes are not in types."""
    found: dict[tuple[Names, Names], str] = {}
    mesh = None
    for name, leaf, batch_axis, time_axis in _mapped(call):
        sharding = jax.typeof(leaf).sharding
        if sharding.mesh.empty:
            continue
        batch = () if batch_axis is None else entry_names(sharding.spec[batch_axis])
        time = entry_names(sharding.spec[time_axis])
        if batch or time:
            found.setdefault((batch, time), name)
            mesh = _one_mesh(mesh, _concrete(leaf) or sharding.mesh)
    if mesh is None:
        return None
    batches = {batch for batch, _ in found if batch}
    times = {time for _, time in found if time}
    if len(batches) > 1 or len(times) > 1:
        lines = [
            f"  {name}: batch over {quote_names(b)}, time over {quote_names(t)}"
            for (b, t), name in found.items()
        ]
        raise ValueError(
            "the arguments are spread over different axes of the mesh:\n"
            + "\n".join(lines)
            + "\nSay how to spread them with partition=PartitionSpec(batch, time)."
        )
    return Placement(mesh, *(next(iter(names), ()) for names in (batches, times)))


def _find_mesh(call: Call, spec: PartitionSpec) -> Mesh | AbstractMesh:
    """Return the one mesh that holds the arguments, or the mesh in scope."""
    mesh: Any = None
    for leaf in call.leaves:
        found = _concrete(leaf) or jax.typeof(leaf).sharding.mesh
        if not found.empty:
            mesh = _one_mesh(mesh, found)
    if mesh is None:
        mesh = _mesh_in_scope()
    if mesh.empty:
        raise ValueError(
            f"partition is {spec}, and there is no mesh: call it inside "
            f"`with jax.set_mesh(mesh):`, place the arguments on the mesh (jax.device_put with a "
            f"NamedSharding), or say partition=NamedSharding(mesh, {spec})."
        )
    return mesh


def _mesh_in_scope() -> Mesh | AbstractMesh:
    scope = jax.sharding.get_abstract_mesh()
    if scope.empty:
        return scope
    try:
        return jax.sharding.get_mesh()
    except ValueError:  # inside of jax.jit
        return scope


def _concrete(leaf: Any) -> Mesh | None:
    """Return the mesh of a concrete array; None for a traced one."""
    if isinstance(leaf, jax.core.Tracer):
        return None
    sharding = getattr(leaf, "sharding", None)
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    return mesh if isinstance(mesh, Mesh) else None


def _one_mesh(known: Any, found: Any) -> Any:
    if known is None:
        return found
    # Inside a block of another mesh the types of axes differ, so names and sizes are compared.
    if known.axis_names != found.axis_names or known.axis_sizes != found.axis_sizes:
        raise ValueError(
            f"the arguments are on different meshes, {_shown(known)} and {_shown(found)}: place "
            f"them on one with jax.device_put(x, NamedSharding(mesh, spec))."
        )
    if isinstance(known, Mesh) and isinstance(found, Mesh) and known != found:
        raise ValueError(
            f"the arguments are on different meshes, both {_shown(known)}, of other devices or in "
            f"another order: place them on one with jax.device_put(x, NamedSharding(mesh, spec))."
        )
    return known if isinstance(known, Mesh) else found


def _shown(mesh: Any) -> str:
    sizes = ", ".join(f"{name}={size}" for name, size in mesh.shape.items())
    return f"({sizes})"


def _check_outside_of_blocks(spec: PartitionSpec) -> None:
    """Raise ValueError inside of `jax.shard_map`, along any of whose axes arrays are blocks."""
    divided = jax.sharding.get_abstract_mesh().manual_axes
    if divided:
        raise ValueError(
            f"partition is {spec}, inside a jax.shard_map over {quote_names(divided)}, which has "
            f"given each device its own block already: leave partition out there, and name the "
            f"axes of batch and time in the in_specs of the jax.shard_map."
        )


def _check_names(found: Placement, spec: PartitionSpec) -> None:
    mesh = found.mesh
    for name in found.names:
        if name not in mesh.axis_names:
            raise ValueError(f"partition is {spec}: the mesh {_shown(mesh)} has no axis {name!r}.")


def _check_sizes(call: Call, found: Placement) -> None:
    for what, size, names, blocks in (
        ("batch", call.batch, found.batch, found.batch_blocks),
        ("time", call.time, found.time, found.time_blocks),
    ):
        if not names:
            continue
        if size is None:
            raise ValueError(
                f"partition spreads a batch over {quote_names(names)}, and no argument has one: "
                f"use PartitionSpec(None, time)."
            )
        over = f"the {blocks} devices of {quote_names(names)}"
        if is_symbolic(size):
            raise ValueError(
                f"the {what} size is {size}, a symbol, which cannot be divided among {over}: "
                f"export with known sizes, or without partition."
            )
        if size % blocks:
            rows = [
                f"{n} is {describe(x)}" for n, x, batch, _ in _mapped(call) if batch is not None
            ]
            up = -(-size // blocks) * blocks
            raise ValueError(
                f"a {what} of {size} does not divide among {over}"
                + (f" ({'; '.join(rows)})" if rows else "")
                + f". Pad it to {up}, with mask= or seq_lengths= for what is real, or use a mesh "
                f"axis whose size divides {size}."
            )


def gather(array: Any) -> Any:
    """Return an array that is whole on every device of an explicit mesh, and has the type of it."""
    sharding = jax.typeof(array).sharding
    if not any(entry_names(entry) for entry in sharding.spec):
        return array
    mesh = _concrete(array) or sharding.mesh
    return jax.sharding.reshard(array, NamedSharding(mesh, PartitionSpec()))


def quote_names(names: Sequence[str]) -> str:
    """Return names of mesh axes as errors show them."""
    return ", ".join(map(repr, names)) or "none"
