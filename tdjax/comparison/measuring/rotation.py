"""Inputs that take turns, so that a call does not find the last call's inputs in the caches.

In use, every call gets new frames and the same weights. So the arrays that have a time axis, and
the cotangents, are copied until they fill the caches twice, and the calls use the copies in turn.
Arrays that are larger than the caches need no copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

MOST_COPIES = 64
TIMES_THE_CACHE = 2


class Rotation:
    """The arguments of calls, in turn.

    Args:
        arguments: `(arrays, cotangents)`, where they are to be used.
        streamed: the positions in `arrays` of those that are new in every call.
        cache_bytes: the size of the last cache.
    """

    def __init__(
        self, arguments: tuple[Any, Any], streamed: Sequence[int], cache_bytes: int
    ) -> None:
        arrays, cotangents = arguments
        streams = [arrays[position] for position in streamed] + list(cotangents)
        copies = how_many(sum(array.nbytes for array in streams), cache_bytes)
        self._sets = [arguments]
        for _ in range(copies - 1):
            fresh = list(arrays)
            for position in streamed:
                fresh[position] = jnp.copy(arrays[position])
            self._sets.append((fresh, [jnp.copy(array) for array in cotangents]))
        jax.block_until_ready(self._sets)
        self._next = 0

    @property
    def copies(self) -> int:
        """How many sets of arguments there are."""
        return len(self._sets)

    def turn(self) -> tuple[Any, Any]:
        """Return the next call's arguments."""
        self._next = (self._next + 1) % len(self._sets)
        return self._sets[self._next]


def how_many(stream_bytes: int, cache_bytes: int) -> int:
    """Return how many copies of the streamed arrays fill a cache of this size twice.

    64 at most: for arrays so small that more are needed, caches hardly matter.
    """
    if stream_bytes == 0:
        return 1
    return min(MOST_COPIES, max(1, math.ceil(TIMES_THE_CACHE * cache_bytes / stream_bytes)))
