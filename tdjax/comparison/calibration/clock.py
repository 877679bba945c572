"""How long small programs take: compiled once, and called in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax

_SAMPLES = 15
_SAMPLE_S = 4e-3


class Program:
    """A compiled program with its arguments.

    Args:
        function: what to compile.
        *arguments: what it is called with.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._run = jax.jit(function).lower(*arguments).compile()
        self._arguments = arguments
        self._calls = 1
        self._sample()
        self._calls = max(1, min(1000, round(_SAMPLE_S / max(self._sample(), 1e-9))))

    def _sample(self) -> float:
        start = time.perf_counter()
        for _ in range(self._calls):
            jax.block_until_ready(self._run(*self._arguments))
        return (time.perf_counter() - start) / self._calls


def seconds(*programs: Program) -> list[float]:
    """Return the shortest time of a call of each: what other processes take only adds to it.

    They are measured in turn, so that a machine that is busy for a while disturbs a part of all.
    """
    rounds = [[each._sample() for each in programs] for _ in range(_SAMPLES)]
    return [min(samples) for samples in zip(*rounds, strict=True)]
