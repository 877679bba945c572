"""Maps a function over the blocks of arrays, one for each device, on meshes of any kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from tdjax.core.call import trace_function
from tdjax.core.shared import joining, split
from tdjax.partition.placement import Placement, entry_names
from tdjax.strategies.rows.compiled_once import execute


def map_blocks(
    where: Placement,
    block: Callable[[list[Any]], tuple[Any, list[PartitionSpec]]],
    operands: list[Any],
    specs: Sequence[PartitionSpec],
) -> Any:
    """Return the outputs of `block`, run by every device on its block of the operands.

    Args:
        where: the mesh, and the axes of it that are divided.
        block: takes the blocks of the operands; returns a pytree, and the spec of each of its
            leaves.
        operands: arrays.
        specs: the spec of each operand.
    """
    from tdjax.partition.checked import marked_p  # needs jax.extend, 20 ms to import

    trees: list[Any] = []
    unchecked = where.explicit or not jax.sharding.get_abstract_mesh().empty
    traced = any(isinstance(operand, jax.core.Tracer) for operand in operands)
    # The gradients of what several devices hold are added up over them.
    held = [traced and set(_names(spec)) != set(where.names) for spec in specs]

    def function(operands: list[Any]) -> Any:
        # The outputs' specs are known once the block has been traced; JAX reads them after that.
        found: list[PartitionSpec] = []

        def body(operands: list[Any]) -> list[Any]:
            with joining(operands) as whole:
                output, specs = block(whole)
            flat, tree = jax.tree.flatten(output)
            found.extend(specs)
            trees.append(tree)
            return [marked_p.single(each, fails=unchecked) for each in flat]

        def mapped(operands: list[Any]) -> list[Any]:
            operands = [
                split(operand) if several else operand
                for operand, several in zip(operands, held, strict=True)
            ]
            return jax.shard_map(
                body,
                mesh=jax.sharding.get_abstract_mesh() if where.others else where.mesh,
                in_specs=(list(specs),),
                out_specs=found,
                axis_names=set(where.names),
                # The check rejects a scan that starts from zeros, as every recurrent cell does.
                check_vma=False,
            )(operands)

        if where.others:
            with jax.sharding.use_abstract_mesh(where.mesh.abstract_mesh):
                automatic = jax.sharding.auto_axes(mapped, axes=where.others, out_sharding=found)
                flat = automatic(operands)
        else:
            flat = mapped(operands)
        return jax.tree.unflatten(trees[-1], flat)

    if where.explicit:
        operands = [_reshard(x, spec, where) for x, spec in zip(operands, specs, strict=True)]
    if traced:
        return jax.jit(function)(operands)
    return _run_compiled(function, operands)


def _run_compiled(function: Callable[[list[Any]], Any], operands: list[Any]) -> Any:
    """Call a function on concrete arrays; programs that compute the same are compiled once."""
    program = trace_function(function, operands)
    tree = program.out_tree
    bare = dataclasses.replace(program, consts=())
    if any(isinstance(const, jax.core.Tracer) for const in program.consts):
        return jax.tree.unflatten(tree, jax.jit(bare)(program.consts, operands))
    flat = execute(lambda: program.key, lambda: bare, program.consts, operands)
    return jax.tree.unflatten(tree, flat)


def _names(spec: PartitionSpec) -> list[str]:
    return [name for entry in spec for name in entry_names(entry)]


def _reshard(array: Any, spec: PartitionSpec, where: Placement) -> Any:
    """Return an array placed as `spec` says on named mesh axes, and as it was on all others."""
    sharding = jax.typeof(array).sharding
    known = sharding.spec if not sharding.mesh.empty else ()
    entries = []
    for axis, entry in enumerate(spec):
        held = known[axis] if axis < len(known) else None
        others = [name for name in entry_names(held) if name not in where.names]
        names = (*entry_names(entry), *others)
        entries.append(names if len(names) > 1 else next(iter(names), None))
    wanted = PartitionSpec(*entries)
    if not sharding.mesh.empty and PartitionSpec(*known) == wanted:
        return array
    return jax.sharding.reshard(array, NamedSharding(where.mesh, wanted))
