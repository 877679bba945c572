"""How long small programs take: compiled once, and called in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import jax

_SAMPLES = 45
_SAMPLE_S = 4e-3


class TimedProgram:
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


class Times(NamedTuple):
    """How long calls take.

    Attributes:
        seconds: the shortest time of each: what other processes take only adds to it.
        unrest: how many times as long as that a usual call took, in the median over programs.
    """

    seconds: list[float]
    unrest: float


def measured(*programs: TimedProgram) -> Times:
    """Return how long a call of each takes.

    They are measured in turn, so that a machine that is busy for a while disturbs a part of all.
    """
    rounds = [[each._sample() for each in programs] for _ in range(_SAMPLES)]
    samples = [*zip(*rounds, strict=True)]
    return Times([min(each) for each in samples], median(median(s) / min(s) for s in samples))
