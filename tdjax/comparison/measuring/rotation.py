"""Inputs that take turns, so that a call does not find the last call's inputs in the caches.

In use, every call gets new frames; weights stay what they are. So the arrays that have a time
axis, and the cotangents, are copied as often as fills the caches twice over, and calls go round
the copies. Arrays that are larger than the caches need no copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

MOST_COPIES = 64
TIMES_THE_CACHE = 2

# No accelerator's last cache is larger: 128 MiB in a TPU v4, 126 MB in a B200.
_ACCELERATOR_CACHE = 128 * 2**20
_USUAL_CPU_CACHE = 32 * 2**20
_CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


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
    """Return how many copies of the streamed arrays leave a cache of this size behind.

    64 at most: where that does not, they are so small that other things decide.
    """
    if stream_bytes == 0:
        return 1
    return min(MOST_COPIES, max(1, math.ceil(TIMES_THE_CACHE * cache_bytes / stream_bytes)))


def cache_bytes(platform: str) -> int:
    """Return the size of a device's last cache, or of the largest one known of its kind."""
    if platform != "cpu":
        return _ACCELERATOR_CACHE
    try:
        sizes = [path.read_text().strip() for path in _CPU_CACHES.glob("index*/size")]
        return max(int(size[:-1]) * _UNITS[size[-1]] for size in sizes)
    except (OSError, ValueError, KeyError, IndexError):  # Not Linux, or a text of another form.
        return _USUAL_CPU_CACHE
