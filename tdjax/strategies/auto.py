"""The strategy that picks one of the others."""

from __future__ import annotations

import dataclasses
from typing import Any

from tdjax._call import Call
from tdjax._symbolic import is_symbolic
from tdjax.independence import CONST, Proven, prove
from tdjax.strategies.base import Strategy
from tdjax.strategies.fold import Fold
from tdjax.strategies.vmap import Vmap


@dataclasses.dataclass(frozen=True)
class Auto(Strategy):
    """Fold where the rows are proven to be independent, map otherwise.

    The choice depends on the program and its sizes alone: the same input gives the same choice, and
    nothing is run or compiled to find it.

    >>> Auto()
    Auto()
    """

    __str__ = Strategy.__str__

    def run(self, call: Call) -> Any:
        """Run the call under the strategy that suits it."""
        if call.axis_name is not None:
            return Vmap().run(call)
        if call.pooled or call.batch is None or (not is_symbolic(call.time) and call.time == 1):
            return (Fold() if call.pooled else Vmap()).run(call)
        proven = prove(call, call.batch * call.time, settled=True)
        if proven.proof.independent and not _shares_rows(call, proven):
            return Fold().run_proven(call, proven)
        return Vmap().run(call, proven)


def _shares_rows(call: Call, proven: Proven) -> bool:
    """Say whether an output that is not to be stacked has rows, which a fold would repeat."""
    return any(
        axis is None and kind is not CONST
        for axis, kind in zip(proven.step.out_axes(call), proven.proof.outputs, strict=True)
    )
