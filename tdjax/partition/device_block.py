"""Runs a strategy on every device's own block of a call, inside `jax.shard_map`.

The result is that of the loop, without communication, because steps are independent of each other;
where the batch is spread, rows must be independent too, which is proven first. The strategy is
given a call of the block's size, and chooses and computes for that size.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tdjax.core.axes import normalize_out_axis
from tdjax.core.call import Call, trace
from tdjax.core.errors import StrategyError
from tdjax.core.jaxpr import stand_in
from tdjax.core.shared import dtype_of_sums, is_summed_wide
from tdjax.independence import CONST, Kind, Proven, Rows, prove
from tdjax.partition.closed_over import hoisted
from tdjax.partition.noise import Noise, draws, find_noise, restore_key
from tdjax.partition.placement import Placement, find_placement, quote_names
from tdjax.partition.shard_map import map_blocks
from tdjax.strategies import Strategy, run_as_asked


def run_in_blocks(call: Call, strategy: Strategy, partition: Any) -> Any:
    """Return the output of a call, of which every device computes its own block.

    Raises:
        ValueError: the partition does not fit the mesh or the call.
        StrategyError: a block cannot be computed by itself.
    """
    where = find_placement(call, partition)
    if where is None:
        return run_as_asked(strategy, call)
    divided = _divide(call, strategy, where)
    specs = [divided.spec(index) for index in range(len(divided.call.leaves))]
    operands, mask = list(divided.call.leaves), divided.call.mask
    if mask is not None:
        specs.append(where.spec(mask.ndim, 0, 1))
        operands.append(mask)

    def block(operands: list[Any]) -> tuple[Any, list[PartitionSpec]]:
        leaves = operands if mask is None else operands[:-1]
        part = divided.block_call(leaves, None if mask is None else operands[-1])
        output = run_as_asked(strategy, part)
        specs = divided.out_specs(output)
        return output if divided.noise is None else jax.tree.map(restore_key, output), specs

    return map_blocks(where, block, operands, specs)


@dataclasses.dataclass(frozen=True, eq=False)
class DividedCall:
    """A call, and how it is divided into blocks.

    Attributes:
        call: the whole call.
        where: the mesh, and the axes of it that batch and time are spread over.
        outputs: where the rows of each output are; None if the batch is not spread.
        proven: what has been proven of the step on a block's rows; None if nothing has.
        noise: the noise that has rows; None for none.
    """

    call: Call
    where: Placement
    outputs: tuple[Kind, ...] | None = None
    proven: Proven | None = None
    noise: Noise | None = None

    @property
    def batch(self) -> Any:
        """The number of rows of a step in a block."""
        batch = self.call.batch
        return batch if batch is None else batch // self.where.batch_blocks

    @property
    def time(self) -> Any:
        """The number of steps in a block."""
        return self.call.time // self.where.time_blocks

    def spec(self, index: int) -> PartitionSpec:
        """Return the spec of a leaf."""
        role, rank = self.call.roles[index], self.call.leaves[index].ndim
        axis = self.call.axes[index]
        if role == "rows":
            return self.where.spec(rank, 0 if axis else 1, axis)
        return self.where.spec(rank, 0 if role == "spread" else None, axis)

    def block_call(self, leaves: Sequence[Any], mask: Any) -> Call:
        """Return the call of a block."""
        call = self.call.replace(
            leaves=tuple(leaves),
            batch=self.batch,
            time=self.time,
            mask=mask,
            traced=None if self.proven is None else self.proven.block,
            proven=self.proven,
        )
        return call if self.noise is None else self.noise.give_keys(call, self.where)

    def out_specs(self, output: Any) -> list[PartitionSpec]:
        """Return the specs of the leaves of an output."""
        leaves = jax.tree.leaves(output)
        axes = self.call.output_axes(output)
        kinds: Sequence[Any] = self.outputs or [None] * len(leaves)
        return [
            self.out_spec(leaf, axis, kind)
            for leaf, axis, kind in zip(leaves, axes, kinds, strict=True)
        ]

    def out_spec(self, leaf: Any, axis: int | None, kind: Kind | None) -> PartitionSpec:
        """Return the spec of an output that has time at `axis` and a step's rows as `kind` says."""
        time = normalize_out_axis(axis, leaf.ndim - (axis is not None), "the output")
        if not isinstance(kind, Rows):
            return self.where.spec(leaf.ndim, None, time)
        if kind.outer != 1:
            raise StrategyError(
                f"an output of {self.call.title} merges its rows into a neighboring axis, behind "
                f"it, where they cannot be spread over {quote_names(self.where.batch)}; return it "
                f"with the batch in front."
            )
        rows = kind.axis + (time is not None and time <= kind.axis)
        return self.where.spec(leaf.ndim, rows, time)


def _divide(call: Call, strategy: Strategy, where: Placement) -> DividedCall:
    """Return how to divide a call, if its blocks can be computed without each other."""
    if call.axis_name is not None and where.time:
        raise StrategyError(
            f"{call.title} has axis_name={call.axis_name!r} for the steps, which are spread over "
            f"{quote_names(where.time)}: every block would see its own steps only. Spread only "
            f"the batch, leave out axis_name, or use partition=PartitionSpec(), which leaves "
            f"spreading to XLA."
        )
    untraced = not where.batch and not call.pooled
    if where.explicit or (untraced and _computes_narrow(call)):
        call = hoisted(call)
    if untraced:
        return DividedCall(call, where)
    rows = call.batch // where.batch_blocks
    with within_block(where):
        if strategy.trusts_caller:
            return DividedCall(call, where, _by_shape(call, rows))
        alone = call if call.axis_name is None else _one_of_equals(call)
        proven = prove(alone, _rows_at_once(strategy, rows, call.time // where.time_blocks))
        if where.batch and draws(proven.step.jaxpr):
            proven = prove(alone, rows)  # draws are compared on exactly a block's rows
    if not proven.proof.independent:
        refuse_dependent_rows(call, where, proven.proof.reason)
    assert proven.block is not None
    if any(map(is_summed_wide, proven.step.consts)) and (given := hoisted(call)) is not call:
        return _divide(given, strategy, where)
    call = call.replace(roles=proven.proof.roles)
    noise = find_noise(call.title, proven.step, proven.block) if where.batch else None
    known = proven if noise is None and call.axis_name is None else None
    return DividedCall(call, where, proven.proof.outputs if where.batch else None, known, noise)


def _computes_narrow(call: Call) -> bool:
    """Say whether a step may close over arrays whose gradients are added up in another dtype."""
    inexact = [leaf.dtype for leaf in call.leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return not inexact or any(dtype_of_sums(dtype) != dtype for dtype in inexact)


def _rows_at_once(strategy: Strategy, batch: int, time: int) -> int:
    """Return the number of rows on which the strategy will trace a block's step."""
    blocks = strategy.blocks(batch, time) if strategy.folds else None
    return batch if blocks is None or time == 1 else blocks.rows


def _one_of_equals(call: Call) -> Call:
    """Return a call without a name for time, to prove its rows independent.

    It runs copies of one step. A collective along time combines the same element of every step, so
    rows meet in it only if they would meet within a step.
    """

    def step(leaves: list[Any]) -> Any:
        mapped = jax.vmap(lambda _: call.step(leaves), axis_name=call.axis_name)
        return jax.tree.map(lambda output: output[0], mapped(jnp.arange(call.time)))

    return call.replace(step=stand_in(step, call.step), axis_name=None)


def within_block(where: Placement) -> contextlib.AbstractContextManager:
    """Have code inside traced with the mesh as a block sees it."""
    return jax.sharding.use_abstract_mesh(where.local)


def _by_shape(call: Call, rows: int) -> tuple[Kind, ...]:
    """Return assumed kinds of outputs: rows lead where the leading size is that of the rows."""
    program = trace(call, rows)
    return tuple(
        Rows(0) if aval.shape and aval.shape[0] == rows else CONST for aval in program.out_avals
    )


def refuse_dependent_rows(call: Call, where: Placement, reason: str) -> NoReturn:
    """Raise StrategyError: rows of different devices may depend on each other."""
    if where.batch:
        time = f"PartitionSpec(None, {quote_names(where.time) if where.time else 'time'})"
        raise StrategyError(
            f"{call.title} cannot run on a batch that is spread over {quote_names(where.batch)}: a "
            f"device sees only its own rows, and they are not proven to be independent, because "
            f"{reason}. Spread only the steps, partition={time}, which any function takes; leave "
            f"spreading to XLA, partition=PartitionSpec(); or use "
            f"tdjax.Fold(assume_independent=True) if you know better."
        )
    raise StrategyError(
        f"{call.title} sees all steps as one batch (pooled=True), which partition divides, and its "
        f"rows are not proven to be independent, because {reason}. Use "
        f"partition=PartitionSpec(), which leaves spreading to XLA."
    )
