"""Checks programs one after the other, and counts."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax

from .check import Failure, check
from .generate import generate
from .program import Program
from .shrink import shrunk

CLEARED_EVERY = 150
"""Programs, after which what JAX remembers of them is thrown away."""


@dataclasses.dataclass
class Summary:
    """What was found.

    Attributes:
        verdicts: how many programs were proven, refused, invalid.
        listed: how many refusals without need each known reason excuses, among a fifth of them.
        strategies: how often each kind of strategy was run.
        failures: the seed, the program and what is wrong with it, made smaller.
        seconds: it took.
        processor: seconds of the processor that it took.
    """

    verdicts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    listed: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    strategies: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failures: list[tuple[Any, Program, Failure]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    processor: float = 0.0

    @property
    def programs(self) -> int:
        """How many were checked."""
        return self.verdicts.total()

    def __str__(self) -> str:
        count = ", ".join(f"{n} {verdict}" for verdict, n in sorted(self.verdicts.items()))
        took = f"{self.seconds:.0f} s ({self.processor:.0f} s of a processor)"
        lines = [f"{self.programs} programs in {took}: {count}."]
        lines += [f"  ran {name}: {n}" for name, n in self.strategies.most_common()]
        lines += [
            f"  refused without need, {n} times: {why}" for why, n in self.listed.most_common()
        ]
        return "\n".join([*lines, f"{len(self.failures)} failures."])


def _kind(strategy: str) -> str:
    name, _, options = strategy.partition("(")
    blocks = "" if "chunk_size=None" in options or "chunk_size" not in options else " in blocks"
    return name + blocks + " with a mask" * options.endswith("mask")


def run(
    seeds: Iterable[Any],
    shrink: bool = True,
    found: Callable[[Any, Program, Failure], bool] | None = None,
) -> Summary:
    """Check the programs of some seeds, and return what was found.

    Args:
        seeds: of programs.
        shrink: make failing programs smaller.
        found: is told of every failure; goes on if it returns True.
    """
    summary, started, worked = Summary(), time.monotonic(), time.process_time()
    for count, seed in enumerate(seeds, 1):
        program = generate(seed)
        outcome = check(program)
        summary.verdicts[outcome.verdict] += 1
        summary.strategies.update(map(_kind, outcome.strategies))
        if outcome.listed:
            summary.listed[outcome.listed] += 1
        if outcome.failure is not None:
            failure = outcome.failure
            if shrink:
                program, failure = shrunk(program, failure)
            summary.failures.append((seed, program, failure))
            if found is not None and not found(seed, program, failure):
                break
        if count % CLEARED_EVERY == 0:
            jax.clear_caches()
    summary.seconds = time.monotonic() - started
    summary.processor = time.process_time() - worked
    return summary
