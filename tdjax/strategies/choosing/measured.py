"""What tuning has measured of a program, or had compiled, and what follows for the choice.

A strategy that is ahead of all others by its interval is taken. Where several cannot be told apart,
what was found does not say which of them is the fastest, and the prediction chooses among them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

from tdjax.devices.compiled_result import (
    BYTES,
    CYCLES,
    ORDERED,
    CompiledResult,
    RankedCandidate,
    Result,
)
from tdjax.devices.tuned_result import Bounds, TunedCandidate, added, level
from tdjax.strategies.base import Strategy, from_data
from tdjax.strategies.choosing.ranking import Candidate
from tdjax.strategies.choosing.tuned import installed


class _Words(NamedTuple):
    """What is said of one that leads, of one that may lead, and of several that are level."""

    first: str
    among: str
    level: str


_WORDS = {
    None: _Words(
        *(f"measured to be {how}" for how in ("the fastest", "among the fastest", "level"))
    ),
    CYCLES: _Words(
        *(f"compiled to {how} cycles" for how in ("the fewest", "nearly the fewest", "as few"))
    ),
    BYTES: _Words(
        *(f"compiled to move {how} bytes" for how in ("the fewest", "nearly the fewest", "as few"))
    ),
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is known of a program.

    Attributes:
        results: one of each mode that counts, all measured or all compiled; their times, cycles or
            bytes are added up.
        shipped: whether they came with the package, and are another's.
    """

    results: Sequence[Result]
    shipped: bool = False

    @property
    def words(self) -> _Words:
        """What is said of the strategies."""
        return _WORDS[self._metric]

    @property
    def where(self) -> str:
        """Where and when it was measured, or for what it was compiled."""
        first = self.results[0]
        if isinstance(first, CompiledResult):
            return _compiled_for(first, self._metric == BYTES)
        if self.shipped:
            versions = f"{first.date}, jax {first.versions.get('jax')}"
            return f"on a device like this one ({first.device}, {versions})"
        return f"here (tuned on {first.date})"

    @property
    def has_packed(self) -> bool:
        """Whether packed steps were among what was measured."""
        return any(strategy.packs for each in self._ran for strategy in each)

    def knows(self, strategy: Strategy) -> bool:
        """Say whether the strategy was measured in every mode that counts."""
        return strategy in self._bounds

    def complete(self, planned: Sequence[Candidate]) -> list[Candidate]:
        """Return candidates with the bytes that they were measured to take, and the unplanned."""
        known = {}
        for strategy in self._bounds:
            sizes = [each[strategy].temp_bytes for each in self._ran]
            known[strategy] = max(math.inf if size is None else size for size in sizes)
        unplanned = known.keys() - {each.strategy for each in planned}
        return [
            *(
                dataclasses.replace(each, most_bytes=known.get(each.strategy, each.most_bytes))
                for each in planned
            ),
            *(
                Candidate(each, math.nan, math.nan, known[each])
                for each in sorted(unplanned, key=self._bounds.__getitem__)
            ),
        ]

    def order(self, candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Strategy]]:
        """Return candidates in the order of their promise, and those that may be the fastest.

        First come those that cannot be told from the fastest of them, then what else was measured,
        by its times, then the others; each as they were given. The second are the first of these.
        """
        known = {
            each.strategy: self._bounds[each.strategy]
            for each in candidates
            if each.strategy in self._bounds
        }
        leading = set(level(known))

        def rank(candidate: Candidate) -> tuple[int, float]:
            strategy = candidate.strategy
            if strategy not in known:
                return 2, 0.0
            return (0, 0.0) if strategy in leading else (1, known[strategy][0])

        ordered = sorted(candidates, key=rank)
        return ordered, [each.strategy for each in ordered[: len(leading)]]

    @functools.cached_property
    def _metric(self) -> str | None:
        """What was compiled is ranked by, cycles only if every mode has them; else None."""
        found = {each.metric for each in self.results if isinstance(each, CompiledResult)}
        return (BYTES if BYTES in found else CYCLES) if found else None

    @functools.cached_property
    def _bounds(self) -> dict[Strategy, Bounds]:
        """The sums of times, and of their bounds, of what ran to the end in every mode."""
        found = []
        for result, ran in zip(self.results, self._ran, strict=True):
            known = (
                result.bounds(self._metric or BYTES)
                if isinstance(result, CompiledResult)
                else result.bounds_s
            )
            found.append(
                {each: known[one.strategy] for each, one in ran.items() if one.strategy in known}
            )
        return {
            strategy: added([each[strategy] for each in found])
            for strategy in found[0]
            if all(strategy in each for each in found)
        }

    @functools.cached_property
    def _ran(self) -> list[dict[Strategy, TunedCandidate | RankedCandidate]]:
        """The candidates that ran to the end, by strategy, without those that decide anew."""
        return [
            {
                strategy: each
                for each in result.candidates
                if each.status == "ok"
                and (strategy := from_data(each.kind, each.options)) is not None
                and not strategy.decides
            }
            for result in self.results
        ]


def _compiled_for(result: CompiledResult, by_bytes: bool) -> str:
    """Return what something was compiled for, by which versions, and how far to trust that."""
    own = {n: v for n, v in result.versions.items() if n not in ("jaxlib", "tdjax")}
    here = installed(own)
    other = ", ".join(f"{name} {here[name]}" for name in here if here[name] != own[name])
    by = ", ".join(f"{name} {version}" for name, version in own.items())
    if not by_bytes:
        trust = "an estimate that was never compared with times of a TPU"
    else:
        trust = ORDERED if result.target.startswith("gpu:") else "by bytes"
    differs = f"; other versions are installed here, {other}" if other else ""
    return f"for {result.device} ({result.target}, {result.date}, {by}{differs}; {trust})"
