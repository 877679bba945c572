"""How far the memory is that operations read and write: what is used between two uses of a value.

A cache still has a value if what was used since its last use fits in (the distance of an LRU
stack). Operations go through values from end to end: between two uses of a byte lie half of what
the first operation uses, half of what the second does, and all between these. A value is written
where one was that is not used any more: the last such one that is large enough.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple


class Traffic(NamedTuple):
    """What operations read and write of a row, a part of it that is alike.

    Attributes:
        bytes: how much that is.
        between: bytes of other values of a row, and of its own, that are used between two uses of
            one of these: a cache that holds so much still has it.
        weights_between: bytes of weights that are read between these two; not a row's.
        written: bytes that each of these operations writes.
    """

    bytes: float
    between: float
    weights_between: float
    written: float


@dataclasses.dataclass(eq=False)
class Value:
    """A value of the program.

    Attributes:
        bytes: of all of it.
        rowed: whether it depends on an input with rows.
        stored: whether it is in memory.
        sources: the values in memory that it is computed from, where it is not itself.
        born, died: the times of its first and last use.
        needed: whether a gradient needs it: something reads it that is not linear, or it is what
            its own derivative is computed from.
        computed: whether an operation computes it, which is not an input or another one's shape.
        turns: how many turns of loops write it; a gradient keeps it of each, and of all branches.
    """

    bytes: float
    rowed: bool
    stored: bool
    sources: tuple[Value, ...] = ()
    born: int = 0
    died: int = 0
    needed: bool = False
    turns: float = 1.0
    computed: bool = False

    @property
    def memory(self) -> tuple[Value, ...]:
        """What is in memory of it."""
        return (self,) if self.stored else self.sources


class Move(NamedTuple):
    """An operation that reads and writes values with rows.

    Attributes:
        reads, writes: the values.
        weight_bytes: what it reads of weights.
        times: how often it runs.
    """

    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    weight_bytes: float
    times: float

    @property
    def bytes(self) -> float:
        """What it reads and writes of values with rows, once."""
        return sum(value.bytes for value in (*self.reads, *self.writes))


def traffic_of(
    moves: Sequence[Move], rows: int, most: float, most_weights: float
) -> tuple[Traffic, ...]:
    """Return what operations read and write of a row, by what is used between two uses of it.

    Args:
        moves: the operations, in their order.
        rows: how many rows they were counted on.
        most, most_weights: what is in use at most, of a row and of weights: no more lies between.
    """
    last_use = {id(value): move for move, each in enumerate(moves) for value in each.reads}
    used: dict[int, tuple[float, float]] = {}  # where values were used last, in bytes before that
    free: list[tuple[float, tuple[float, float]]] = []
    at = weights_at = 0.0
    found: dict[tuple[int, ...], list[Traffic]] = {}

    def add(value: Value, times: float, since: tuple[float, float] | None) -> None:
        between, weights = most, most_weights
        if since is not None:
            between = min(most, (middle[0] - since[0]) / rows)
            weights = min(most_weights, middle[1] - since[1])
        one = Traffic(value.bytes * times / rows, between, weights, written)
        found.setdefault(tuple(map(_scale, one[1:])), []).append(one)

    for number, move in enumerate(moves):
        middle = at + move.bytes / 2, weights_at + move.weight_bytes / 2
        at, weights_at = at + move.bytes, weights_at + move.weight_bytes
        written = sum(value.bytes for value in move.writes or move.reads) / rows
        for value in move.reads:
            add(value, move.times, used.get(id(value)))
            used[id(value)] = middle
        for value in move.writes:
            place = next((p for p in reversed(free) if p[0] >= value.bytes), None)
            if place is not None:
                free.remove(place)
            add(value, move.times, place and place[1])
            used[id(value)] = middle
        free += [(v.bytes, middle) for v in move.reads if last_use[id(v)] == number]
    return tuple(
        Traffic(sum(each.bytes for each in alike), *map(fmean, list(zip(*alike, strict=True))[1:]))
        for alike in found.values()
    )


def _scale(size: float) -> int:
    """Return the power of 2 that a size is next to."""
    return round(math.log2(size)) if size >= 1 else -1


def bytes_of(aval: Any) -> float:
    """Return the bytes of an array of this type; 0 of what is no array."""
    size = getattr(getattr(aval, "dtype", None), "itemsize", 0)
    return float(math.prod(getattr(aval, "shape", ())) * size)
