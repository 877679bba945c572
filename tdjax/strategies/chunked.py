"""What strategies share that take their work in chunks: options, their checks, and candidates."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

from tdjax.core.arrays import is_symbolic
from tdjax.costs.blocks import Blocks
from tdjax.strategies.base import Strategy

# Chunks that are written out are compiled one by one. More than this takes longer to compile than
# anyone wants to wait: so many chunks, or so many operations in all of them.
MOST_UNROLLED = 16
MOST_WRITTEN = 500
MOST_CHUNKS = 256


@dataclasses.dataclass(frozen=True)
class Chunked(Strategy):
    """A strategy that computes all at once, or in chunks, looped over or written out.

    Attributes:
        unit: what chunks are made of, as messages name it.
    """

    unit: ClassVar[str]

    chunk_size: int | None = None
    unroll: bool | int = False
    remat: bool = False

    def __post_init__(self) -> None:
        check_chunk_size(self, self.unit)
        self._check_unroll()

    @staticmethod
    @abc.abstractmethod
    def size(batch: Any, time: Any) -> Any:
        """Return how many units a call has."""

    def blocks(self, batch: int, time: int) -> Blocks:
        """Return how it goes through the rows: as they lie, or by whole steps, put in front."""
        size = self.size(batch, time)
        chunk = min(self.chunk_size or size, size)
        count = -(-size // chunk)
        return Blocks(
            rows=chunk * (batch * time // size),
            count=count,
            looped=count > 1 and self.unroll is not True,
            remat=self.remat,
            transposed=not self.folds and batch > 1,
            plain=self.at_once,
        )

    @property
    def at_once(self) -> bool:
        """Whether there are no chunks."""
        return self.chunk_size is None

    def writes_out(self, batch: Any, time: Any) -> bool:
        """Say whether several chunks of a call are written out, all of them or those of a turn."""
        return bool(self.unroll) and not self.takes_all(batch, time)

    def without_remat(self) -> Strategy:
        """Return it without its backward pass's recomputing, which a forward pass has not."""
        return dataclasses.replace(self, remat=False)

    def takes_all(self, batch: Any, time: Any) -> bool:
        """Say whether one chunk takes in a whole call."""
        if self.chunk_size is None:
            return True
        size = self.size(batch, time)
        return not is_symbolic(size) and self.chunk_size >= size

    @classmethod
    def candidates(
        cls, batch: int, time: int, remat: bool, operations: int, own_forms: bool
    ) -> list[Strategy]:
        """Return it whole, as a single chunk, and in 2, 4, 8, ... 256 chunks."""
        size = cls.size(batch, time)
        unrolled = min(MOST_UNROLLED, MOST_WRITTEN // max(1, operations))
        found: list[Strategy] = [cls()]
        if own_forms:
            found.append(cls(chunk_size=size))
        doubled = (2**power for power in range(1, MOST_CHUNKS.bit_length()))
        for wanted in sorted({min(count, size) for count in doubled}):
            chunk = -(-size // wanted)
            count = -(-size // chunk)
            if count < 2:
                continue
            found.append(cls(chunk_size=chunk))
            if count <= unrolled:
                found.append(cls(chunk_size=chunk, unroll=True))
            if remat:
                found.append(cls(chunk_size=chunk, remat=True))
        return found

    def _check_unroll(self) -> None:
        """Raise unless `unroll` is a bool or a positive int, and there are chunks to unroll."""
        owner, unroll = type(self).__name__, self.unroll
        if not isinstance(unroll, (bool, int)):
            raise TypeError(
                f"{owner}(unroll={unroll!r}) is {type(unroll).__name__}; it must be a bool (True: "
                f"one copy of the program a block) or an int (blocks per turn of the loop)."
            )
        if not isinstance(unroll, bool) and unroll < 1:
            raise ValueError(
                f"{owner}(unroll={unroll}) must be at least 1 block per turn of the loop."
            )
        if unroll == 1 and unroll is not True:
            object.__setattr__(self, "unroll", False)  # 1 == True, which is all of them
        if (unroll is True or unroll > 1) and self.chunk_size is None:
            raise ValueError(
                f"{owner}(unroll={unroll!r}) has no blocks to unroll: give chunk_size as well."
            )


def check_chunk_size(strategy: Any, unit: str) -> None:
    """Raise unless the chunk size of a strategy is None or a positive int."""
    owner, chunk_size = type(strategy).__name__, strategy.chunk_size
    if chunk_size is None:
        return
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int):
        raise TypeError(
            f"{owner}(chunk_size={chunk_size!r}) is {type(chunk_size).__name__}; it must be a "
            f"positive int, the number of {unit} computed at once, or None for all of them."
        )
    if chunk_size < 1:
        raise ValueError(
            f"{owner}(chunk_size={chunk_size}) must be at least 1, the number of {unit} computed "
            f"at once; None computes all of them at once."
        )
