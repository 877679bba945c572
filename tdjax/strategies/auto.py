"""The strategy that picks one of the others."""

from __future__ import annotations

import dataclasses
from typing import Any

from tdjax._call import Call
from tdjax._symbolic import is_symbolic
from tdjax.independence import draft
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
        if call.axis_name is not None or (not is_symbolic(call.time) and call.time == 1):
            return Vmap().run(call) if not call.pooled else Fold().run(call)
        if call.pooled:
            return Fold().run(call)
        drafted = draft(call)
        if not drafted.proof.independent:
            return Vmap().run(call)
        return Fold().run_drafted(call, drafted, fallback=Vmap())
