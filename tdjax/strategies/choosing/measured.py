"""What tuning has measured of a program, and what follows for the choice.

A strategy that is ahead of all others by its interval is taken. Where several cannot be told apart,
what was measured does not say which of them is the fastest, and the prediction chooses among them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

from tdjax.devices.tuned_result import Bounds, Tuned, TunedCandidate, added, level
from tdjax.strategies.base import Strategy, from_data
from tdjax.strategies.choosing.ranking import Candidate


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is known of a program.

    Attributes:
        results: one of each mode that counts; their times are added up.
        shipped: whether they came with the package, and are another's.
    """

    results: Sequence[Tuned]
    shipped: bool = False

    @property
    def where(self) -> str:
        """Where and when it was measured."""
        first = self.results[0]
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
    def _bounds(self) -> dict[Strategy, Bounds]:
        """The sums of times, and of their bounds, of what ran to the end in every mode."""
        return {
            strategy: added([each[strategy].bounds_s for each in self._ran])
            for strategy in self._ran[0]
            if all(strategy in each for each in self._ran)
        }

    @functools.cached_property
    def _ran(self) -> list[dict[Strategy, TunedCandidate]]:
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
