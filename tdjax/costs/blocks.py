"""How rows are split into blocks."""

from __future__ import annotations

import dataclasses

from tdjax.costs.machine import Machine
from tdjax.costs.work import Work


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How a strategy goes through the rows of all steps.

    Attributes:
        rows: rows of a block.
        count: how many blocks there are.
        looped: whether a loop runs them; otherwise each is written out.
        remat: whether a gradient recomputes them.
        transposed: whether rows are brought into another order and back, as a map over time does.
        plain: whether convolutions are left to XLA, as in a program written by hand.
    """

    rows: int
    count: int
    looped: bool = False
    remat: bool = False
    transposed: bool = False
    plain: bool = False

    @property
    def beside(self) -> int:
        """How many other blocks have images and what is looked up in memory beside one's own.

        Where blocks are written out, XLA takes the convolutions of all of them apart at the same
        time, and looks up in tables for all of them.
        """
        return 0 if self.looped else self.count - 1

    def has_tiles(self, work: Work, machine: Machine) -> bool:
        """Say whether convolutions are computed by tiles."""
        enough = bool(work.tiled_convs) and self.rows >= work.tiled_from
        return enough and not self.beside and machine.takes_tiles and not self.plain
