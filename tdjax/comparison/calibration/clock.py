"""How long small programs take: compiled once, and called until their time is steady."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax

_SAMPLES = 9
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
    """Return the median time of a call of each, measured in turn: drift then meets all alike."""
    rounds = [[each._sample() for each in programs] for _ in range(_SAMPLES)]
    return [median(samples) for samples in zip(*rounds, strict=True)]
