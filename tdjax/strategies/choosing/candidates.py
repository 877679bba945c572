"""The strategies that are worth a thought for a call of some size."""

from __future__ import annotations

from tdjax.strategies.base import Strategy
from tdjax.strategies.fold import Fold
from tdjax.strategies.vmap import Vmap

MOST_UNROLLED = 16
MOST_WRITTEN = 500
MOST_BLOCKS = 256


def candidates(
    batch: int, time: int, remat: bool = False, operations: int = 1, convolves: bool = False
) -> list[Strategy]:
    """Return whole, blocked, unrolled and scanned forms, each once.

    The number of blocks doubles from one to the next, up to 256. More than 16 are not written out,
    nor more than 500 operations: compiling them takes longer than anyone wants to wait.

    Args:
        batch: rows of a step.
        time: steps.
        remat: also the scanned forms that compute their blocks anew in the backward pass.
        operations: how many a block has.
        convolves: also the whole as one block, whose convolutions are tdjax's own.
    """
    unrolled = min(MOST_UNROLLED, MOST_WRITTEN // max(1, operations))
    found: list[Strategy] = [Fold(), Vmap()]
    if convolves:
        found += [Fold(chunk_size=batch * time), Vmap(chunk_size=time)]
    for kind, size in ((Fold, batch * time), (Vmap, time)):
        for count in _counts(size):
            chunk = -(-size // count)
            found += _forms(kind, chunk, -(-size // chunk), unrolled, remat)
    return list(dict.fromkeys(found))


def _counts(size: int) -> list[int]:
    doubled = [2**power for power in range(1, MOST_BLOCKS.bit_length())]
    return sorted({min(count, size) for count in doubled})


def _forms(
    kind: type[Fold] | type[Vmap], chunk: int, count: int, unrolled: int, remat: bool
) -> list[Strategy]:
    if count < 2:
        return []
    forms: list[Strategy] = [kind(chunk_size=chunk)]
    if count <= unrolled:
        forms.append(kind(chunk_size=chunk, unroll=True))
    if remat:
        forms.append(kind(chunk_size=chunk, remat=True))
    return forms
