"""Runs a strategy on every device's own block of a call, inside `jax.shard_map`.

The meaning of the loop survives without communication because steps do not know of each other, and
rows do not either where the batch is spread: that is proven first. Whatever the strategy does, it
does to a call of the block's own size, and plans for that.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from tdjax.core.axes import broadcast_axes, normalize_out_axis
from tdjax.core.call import Call, trace
from tdjax.core.errors import StrategyError
from tdjax.core.symbolic_sizes import reshaped
from tdjax.independence import Kind, Proven, Rows, prove
from tdjax.partition.closed_over import hoisted
from tdjax.partition.noise import Noise, draws_noise, find_noise
from tdjax.partition.placement import Placement, place, sequence
from tdjax.partition.shard_map import spread
from tdjax.strategies import Strategy


def run(call: Call, strategy: Strategy, partition: Any) -> Any:
    """Return the output of a call, every device having computed its own block.

    Raises:
        ValueError: the partition does not fit the mesh or the call.
        StrategyError: a block cannot be computed by itself.
    """
    where = place(call, partition)
    if where is None:
        return strategy.run(call)
    cut = _cut(call, strategy, where)
    specs = [cut.spec(index) for index in range(len(cut.call.leaves))]
    operands, mask = list(cut.call.leaves), cut.call.mask
    if mask is not None:
        specs.append(where.spec(mask.ndim, 0, 1))
        operands.append(mask)

    def block(operands: list[Any]) -> tuple[Any, list[PartitionSpec]]:
        leaves = operands if mask is None else operands[:-1]
        output = strategy.run(cut.local(leaves, None if mask is None else operands[-1]))
        specs = cut.out_specs(output)
        return output if cut.noise is None else cut.noise.whole(output), specs

    return spread(where, block, operands, specs)


def own_block(call: Call, partition: Any) -> Call:
    """Return one device's part of a call, with descriptions in place of arrays."""
    where = place(call, partition)
    if where is None:
        return call
    cut = _cut(call, None, where)
    leaves = []
    for index, leaf in enumerate(call.leaves):
        spec = cut.spec(index)
        shape = NamedSharding(where.mesh.abstract_mesh, spec).shard_shape(leaf.shape)
        leaves.append(reshaped(shape, leaf))
    mask = call.mask
    if mask is not None:
        mask = jax.ShapeDtypeStruct((cut.batch, cut.time, *mask.shape[2:]), mask.dtype)
    return cut.local(leaves, mask)


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """A call, and how it is cut into blocks.

    Attributes:
        call: the whole call.
        where: the mesh.
        outputs: where the rows of each output are; None where the batch is not spread.
        proven: what has been proven of the step on rows of a block; None where nothing was.
        noise: the noise that rows draw, of which a block takes its own; None for none.
    """

    call: Call
    where: Placement
    outputs: tuple[Kind, ...] | None = None
    proven: Proven | None = None
    noise: Noise | None = None

    @property
    def batch(self) -> Any:
        """Rows of a step in a block."""
        batch = self.call.batch
        return batch if batch is None else batch // self.where.batch_blocks

    @property
    def time(self) -> Any:
        """Steps of a block."""
        return self.call.time // self.where.time_blocks

    def spec(self, index: int) -> PartitionSpec:
        """Return how a leaf lies."""
        role, rank = self.call.roles[index], self.call.leaves[index].ndim
        axis = self.call.axes[index]
        if role == "rows":
            return self.where.spec(rank, 0 if axis else 1, axis)
        return self.where.spec(rank, 0 if role == "spread" else None, axis)

    def local(self, leaves: Sequence[Any], mask: Any) -> Call:
        """Return the call of a block."""
        call = dataclasses.replace(
            self.call,
            leaves=tuple(leaves),
            batch=self.batch,
            time=self.time,
            mask=mask,
            traced=None if self.proven is None else self.proven.block,
            proven=self.proven,
        )
        return call if self.noise is None else self.noise.of_block(call, self.where)

    def out_specs(self, output: Any) -> list[PartitionSpec]:
        """Return how the leaves of an output lie."""
        leaves = jax.tree.leaves(output)
        axes = broadcast_axes("out_axes", self.call.out_axes, output)
        kinds: Sequence[Any] = self.outputs or [None] * len(leaves)
        return [
            self.out_spec(leaf, axis, kind)
            for leaf, axis, kind in zip(leaves, axes, kinds, strict=True)
        ]

    def out_spec(self, leaf: Any, axis: int | None, kind: Kind | None) -> PartitionSpec:
        """Return how an output lies: time at `axis`, if it has any, and a step's rows by `kind`."""
        time = normalize_out_axis(axis, leaf.ndim - (axis is not None), "the output")
        if not isinstance(kind, Rows):
            return self.where.spec(leaf.ndim, None, time)
        if kind.outer != 1:
            raise StrategyError(
                f"an output of {self.call.title} merges its rows into a neighbouring axis, behind "
                f"it, where they cannot be spread over {sequence(self.where.batch)}; return it "
                f"with the batch in front."
            )
        rows = kind.axis + (time is not None and time <= kind.axis)
        return self.where.spec(leaf.ndim, rows, time)


def _cut(call: Call, strategy: Strategy | None, where: Placement) -> Cut:
    """Return how to cut a call, if its blocks can be computed by themselves."""
    if call.axis_name is not None and where.time:
        raise StrategyError(
            f"{call.title} has axis_name={call.axis_name!r} for the steps, which are spread over "
            f"{sequence(where.time)}: every block would talk to its own steps alone. Spread the "
            f"batch alone, leave out axis_name, or use partition=PartitionSpec(), which leaves "
            f"spreading to XLA."
        )
    if where.explicit:
        call = hoisted(call)
    if not where.batch and not call.pooled:
        return Cut(call, where)
    assumed = strategy is not None and strategy.trusts_caller
    rows = call.batch // where.batch_blocks
    with in_block(where):
        if assumed:
            return Cut(call, where, _by_shape(call, rows))
        alone = call if call.axis_name is None else _one_of_equals(call)
        proven = prove(alone, _rows_at_once(strategy, rows, call.time // where.time_blocks))
        if where.batch and draws_noise(proven.step):
            proven = prove(alone, rows)  # what is drawn is compared on a block's own rows
    if not proven.proof.independent:
        refuse(call, where, proven.proof.reason)
    assert proven.block is not None
    call = dataclasses.replace(call, roles=proven.proof.roles)
    noise = find_noise(call.title, proven.step, proven.block) if where.batch else None
    known = proven if noise is None and call.axis_name is None else None
    return Cut(call, where, proven.proof.outputs if where.batch else None, known, noise)


def _rows_at_once(strategy: Strategy | None, batch: int, time: int) -> int:
    """Return on how many rows a block's step will be traced, so that it is only once."""
    blocks = None if strategy is None or not strategy.folds else strategy.blocks(batch, time)
    return batch if blocks is None or time == 1 else blocks.rows


def _one_of_equals(call: Call) -> Call:
    """Return a call without a name for time, for its proof: as if all steps were the same one.

    What a step says to others along time goes to the same place in each, so to the same row.
    """

    def step(leaves: list[Any]) -> Any:
        mapped = jax.vmap(lambda _: call.step(leaves), axis_name=call.axis_name)
        return jax.tree.map(lambda output: output[0], mapped(jnp.arange(call.time)))

    return dataclasses.replace(call, step=step, axis_name=None)


def in_block(where: Placement) -> contextlib.AbstractContextManager:
    """Let what is traced inside see the mesh as a block does."""
    return jax.sharding.use_abstract_mesh(where.local)


def _by_shape(call: Call, rows: int) -> tuple[Kind, ...]:
    """Return what stands in for a proof: rows where the leading size is theirs."""
    from tdjax.independence import CONST

    program = trace(call, rows)
    return tuple(
        Rows(0) if aval.shape and aval.shape[0] == rows else CONST for aval in program.out_avals
    )


def refuse(call: Call, where: Placement, reason: str) -> NoReturn:
    """Raise StrategyError: rows would have to meet."""
    if where.batch:
        time = f"PartitionSpec(None, {sequence(where.time) if where.time else 'time'})"
        raise StrategyError(
            f"{call.title} cannot run on a batch that is spread over {sequence(where.batch)}: a "
            f"device sees its own rows alone, and they are not proven to be independent, because "
            f"{reason}. Spread the steps alone, partition={time}, which any function takes; leave "
            f"spreading to XLA, partition=PartitionSpec(); or use "
            f"tdjax.Fold(assume_independent=True) if you know better."
        )
    raise StrategyError(
        f"{call.title} sees all steps as one batch (pooled=True), which partition takes apart, and "
        f"its rows are not proven to be independent, because {reason}. Use "
        f"partition=PartitionSpec(), which leaves spreading to XLA."
    )
