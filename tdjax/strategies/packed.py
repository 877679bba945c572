"""The strategy that computes only the rows that a mask keeps."""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

import jax

from tdjax.core.arrays import is_symbolic
from tdjax.core.call import Call, trace
from tdjax.core.errors import StrategyError
from tdjax.costs.machine import current_machine
from tdjax.costs.packed import Packs, best_packs, has_small_blocks
from tdjax.costs.reading import work_of
from tdjax.costs.work import Work
from tdjax.independence import Proven, prove_for_blocks
from tdjax.strategies.base import Strategy
from tdjax.strategies.chunked import check_chunk_size
from tdjax.strategies.convolution import convolving_fast
from tdjax.strategies.fold import Fold
from tdjax.strategies.rows.compiled_once import execute
from tdjax.strategies.rows.prints import lift_prints
from tdjax.strategies.vmap import way_for_any

# Rows of a block where sizes are symbols.
_SYMBOLIC = 128


@dataclasses.dataclass(frozen=True)
class Packed(Strategy):
    """Compute the rows that the mask keeps, and nothing else.

    Real rows are put first, in their order, and computed in blocks; the blocks behind them do not
    run, neither forward nor backward. The mask need not be known before the program runs: every
    array keeps its shape, no row is dropped, and one program serves all masks. Masked steps give 0,
    and no gradient. Rows must be independent, which is proven as for a fold.

    Rows that do not fill a block are computed in smaller blocks, as large as one step, if that size
    fits and such a block does not spend most of its time on reading weights. Otherwise the last
    block is filled with copies of a row, whose outputs and gradients are dropped.

    On a GPU or TPU, which many rows at once keep busy, no loop runs unless the predicted costs
    suggest one: there is a program for a quarter of all rows, for a half, three quarters and all
    (without those that would be hardly faster than a larger one), and the smallest that holds the
    real rows computes them at once.

    Args:
        chunk_size: rows of a block; None for as many as the predicted costs suggest. As in `Fold`,
            1 means two where one row alone would be another program.

    >>> import tdjax
    >>> sine = tdjax.time_distributed(jax.numpy.sin, strategy=Packed(chunk_size=64))
    >>> sine(jax.numpy.ones((2, 3)), seq_lengths=jax.numpy.array([3, 1]))
    Array([[0.84147096, 0.84147096, 0.84147096],
           [0.84147096, 0.        , 0.        ]], dtype=float32)
    """

    packs = True

    chunk_size: int | None = None

    def __post_init__(self) -> None:
        check_chunk_size(self, "rows")

    def run(self, call: Call, proven: Proven | None = None) -> Any:
        """Pack the call, if its rows are proven independent."""
        _check(call)
        if call.batch is None:
            _refuse(call, "no argument has both time and batch")
        rows = call.batch * call.time
        if not is_symbolic(rows) and rows == 0:
            return Fold().run(call)
        call = call.replace(traced=trace(call, call.batch))
        if (lifted := lift_prints(call)) is not None:
            return lifted.finish(self.run(lifted))
        proven = prove_for_blocks(call, self.rows_at_once(call)) if proven is None else proven
        if not proven.proof.independent:
            _refuse(call, proven.proof.reason)
        return self._run_proven(call, proven)

    def rows_at_once(self, call: Call) -> int:
        """Return how many rows a block of a traced call has."""
        return self._packs(call).rows

    def _packs(self, call: Call) -> Packs:
        rows = call.batch * call.time
        if is_symbolic(rows):
            return Packs(self.chunk_size or _SYMBOLIC)
        if self.chunk_size is None:
            return best_packs(_work(call), call.batch, call.time, current_machine())
        return Packs(min(self.chunk_size, rows))

    def _run_proven(self, call: Call, proven: Proven) -> Any:
        """Run with the step traced on a block of rows, and their independence settled."""
        from tdjax.strategies.row_loop.packing import Packing  # needs jax.extend, 20 ms to import

        proof, program = proven.proof, proven.block
        assert program is not None
        packs = self._packs(call)
        call = call.replace(roles=proof.roles)
        programs = [program]
        if not (packs.at_once or is_symbolic(call.batch)) and has_small_blocks(
            packs.rows, _work(call), call.batch, current_machine()
        ):
            programs.append(proven.step)

        def packing() -> Packing:
            bare = (convolving_fast(dataclasses.replace(each, consts=())) for each in programs)
            return Packing(call.described(), tuple(bare), proof, packs.at_once)

        operands = list(program.consts), list(call.leaves), call.mask

        def key() -> Any:
            step = proven.step.key
            return step and (self, step, packs, call.layout(), proof.outputs)

        return jax.tree.unflatten(program.out_tree, execute(key, packing, *operands))


def _work(call: Call) -> Work:
    assert call.traced is not None
    return work_of(call.traced.jaxpr, call.batch, call.has_rows())


def _check(call: Call) -> None:
    """Raise StrategyError where there is nothing to pack, or something to keep."""
    if call.mask is None:
        raise StrategyError(
            f'{call.title} has no mask: strategy="packed" computes only the steps that a mask '
            f"keeps. Call it with mask= (bool, batch x time) or seq_lengths= (int, batch), or use "
            f'strategy="fold".'
        )
    if call.masked_output == "keep":
        raise StrategyError(
            f'{call.title} has masked_output="keep", and strategy="packed" computes nothing in '
            f'masked steps that could be kept. Use masked_output="zero", or strategy="fold".'
        )


def _refuse(call: Call, reason: str) -> NoReturn:
    way = 'strategy="fold"' if call.pooled else way_for_any(call)
    raise StrategyError(
        f"{call.title} cannot be packed: its rows are not proven to be independent, because "
        f"{reason}. Use {way}, which takes any function."
    )
