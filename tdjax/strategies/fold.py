"""The strategy that merges time into the batch."""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

import jax

from tdjax.core.arrays import is_symbolic
from tdjax.core.call import Call, Program, trace
from tdjax.core.errors import StrategyError
from tdjax.independence import CONST, Kind, Proof, Proven, Rows, prove_for_blocks
from tdjax.strategies.base import Strategy
from tdjax.strategies.chunked import Chunked
from tdjax.strategies.convolution import convolving_fast
from tdjax.strategies.rows.compiled_once import execute
from tdjax.strategies.rows.folding import Folding
from tdjax.strategies.rows.prints import lift_prints
from tdjax.strategies.vmap import Vmap, way_for_any


@dataclasses.dataclass(frozen=True)
class Fold(Chunked):
    """Merge time into the batch, call the step function on all rows, split the answer again.

    Without `chunk_size` it is the program that one would write by hand, and Haiku's and Flax's
    `BatchApply`. The function sees rows of different steps at once, which keeps the meaning of the
    loop only if output row i depends on input row i alone: tdjax proves it, or raises
    `StrategyError` with the operation that mixes rows and its source line.

    Args:
        chunk_size: rows at once; None for all. Blocks whose activations fit the caches are often
            the fastest of all on a CPU, and bound memory anywhere. It need not divide the rows.
            In blocks, even a single block of all rows, convolutions are tdjax's own, which a CPU
            computes up to 30 times faster. Where one row alone would be another program, as of
            batched products, 1 means two rows at once (costs are predicted for one).
        unroll: True writes every block out instead of looping over them; an int is the number of
            blocks per turn of the loop.
        remat: recompute a block in the backward pass instead of keeping what it computed.
        assume_independent: fold without a proof, on the caller's word.

    >>> Fold(chunk_size=64)
    Fold(chunk_size=64, unroll=False, remat=False, assume_independent=False)
    """

    unit = "rows"

    assume_independent: bool = False

    @staticmethod
    def size(batch: Any, time: Any) -> Any:
        """Return how many rows a call has."""
        return batch * time

    def rows_at_once(self, call: Call) -> Any:
        """Return how many rows a block has, where sizes may be symbols."""
        if self.takes_all(call.batch, call.time):
            return call.batch * call.time
        return self.chunk_size

    def as_one_batch(self, call: Call) -> Strategy | None:
        """Return the form without blocks, unless there are several."""
        return Fold(remat=self.remat) if self.takes_all(call.batch, call.time) else None

    def on_proof(self) -> Strategy:
        """Return the fold that proves rows to be independent."""
        return dataclasses.replace(self, assume_independent=False)

    def run(self, call: Call, proven: Proven | None = None) -> Any:
        """Fold the call, if its rows are proven independent."""
        if proven is not None and proven.proof.independent:
            return self._run_proven(call, proven)
        if not is_symbolic(call.time) and call.time == 1 and not call.pooled:
            return Vmap(remat=self.remat).run(call)  # one step folds to itself
        if call.batch is None:
            self._refuse(call, "no argument has both time and batch")
        block = self.rows_at_once(call)
        if call.traced is None and not call.pooled:
            rows = block if self.assume_independent else call.batch
            call = call.replace(traced=trace(call, rows))
        if (lifted := lift_prints(call)) is not None:
            return lifted.finish(self.run(lifted))
        whole = call.pooled and self.takes_all(call.batch, call.time)
        # Padding can only be filled with other rows if rows are independent.
        fills = call.mask is not None and not call.filled
        if not self.assume_independent and (not whole or fills):
            proven = prove_for_blocks(call, block)
            if proven.proof.independent:
                return self._run_proven(call, proven)
            if not whole:
                self._refuse(call, proven.proof.reason)
        program = trace(call, block)
        return self._run_proven(call, Proven(self._without_proof(call, program), program, program))

    def _run_proven(self, call: Call, proven: Proven) -> Any:
        """Run with the step traced on a block of rows, and their independence settled."""
        proof, program = proven.proof, proven.block
        assert program is not None
        if call.roles != proof.roles:
            call = call.replace(roles=proof.roles)
        call = call.with_rows_mapped()
        rows = call.batch * call.time

        def folding() -> Folding:
            bare = dataclasses.replace(program, consts=())
            if self.chunk_size is not None:
                bare = convolving_fast(bare, self.writes_out(call.batch, call.time))
            shapes = rows, program.rows
            return Folding(call.described(), bare, proof, *shapes, self.unroll, self.remat)

        operands = list(program.consts), list(call.leaves), call.mask

        def key() -> Any:
            step = proven.step.key
            return step and (self, step, call.layout(), proof.outputs)

        return jax.tree.unflatten(program.out_tree, execute(key, folding, *operands))

    def _refuse(self, call: Call, reason: str) -> NoReturn:
        if call.pooled:
            raise StrategyError(
                f"{call.title} sees all steps as one batch (pooled=True), which {self} would take "
                f"apart, and its rows are not proven to be independent, because {reason}. Use "
                f'strategy="fold".'
            )
        raise StrategyError(
            f"{call.title} cannot be folded: its rows are not proven to be independent, because "
            f"{reason}. Use {way_for_any(call)}, which takes any function; pooled=True if "
            f"the function is meant to see all steps as one batch; or "
            f"tdjax.Fold(assume_independent=True) if you know better."
        )

    def _without_proof(self, call: Call, program: Program) -> Proof:
        """Return what stands in for a proof: rows where the leading size is theirs."""
        for name, role in zip(call.names, call.roles, strict=True):
            if role == "step":
                raise StrategyError(
                    f"{name} has one value a step and no batch axis; only a proof says where it "
                    f'meets the rows of a fold. Use strategy="vmap", or leave out pooled=True and '
                    f"assume_independent=True."
                )
        outputs: list[Kind] = [
            Rows(0) if axis is not None and aval.shape and aval.shape[0] == program.rows else CONST
            for axis, aval in zip(program.out_axes(call), program.out_avals, strict=True)
        ]
        if call.pooled:
            _check_pooled(call, program, outputs)
        return Proof(self.assume_independent, "", call.roles, tuple(outputs))


def _check_pooled(call: Call, program: Program, outputs: list[Kind]) -> None:
    """An output over all steps has no time to stack."""
    for kind, axis, aval in zip(outputs, program.out_axes(call), program.out_avals, strict=True):
        if kind is CONST and axis is not None:
            raise ValueError(
                f"an output of {call.title} with pooled=True is {aval.dtype}{list(aval.shape)}, "
                f"which does not lead with the {program.rows} rows of all steps; give None at its "
                f"place in out_axes to have it as it is."
            )
