"""Strategies in the order in which tuning has measured them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tdjax.strategies.base import Strategy, from_data
from tdjax.strategies.choosing.ranking import Candidate
from tdjax.strategies.choosing.tuned import Tuned


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
            versions = f"{first.date}, jax {first.versions['jax']}"
            return f"on a device like this one ({first.device}, {versions})"
        return f"here (tuned on {first.date})"

    @property
    def has_packed(self) -> bool:
        """Whether packed steps were among what was measured."""
        return any(strategy.packs for each in self._results for strategy in each)

    def knows(self, strategy: Strategy) -> bool:
        """Say whether the strategy was measured in every mode that counts."""
        return all(strategy in each for each in self._results)

    def first(self, planned: Sequence[Candidate]) -> list[Candidate]:
        """Return candidates, the measured ones first, by their times and with their bytes."""
        predicted = {each.strategy: each for each in planned}
        known = []
        for strategy in set.intersection(*(set(each) for each in self._results)):
            found = [each[strategy] for each in self._results]
            bytes_taken = [each["temp_bytes"] for each in found]
            most = math.inf if None in bytes_taken else float(max(bytes_taken))
            unknown = Candidate(strategy, math.nan, math.nan, most)
            candidate = dataclasses.replace(predicted.pop(strategy, unknown), most_bytes=most)
            known.append((sum(each["median_s"] for each in found), str(strategy), candidate))
        known.sort(key=lambda each: each[:2])
        others = [each for each in planned if each.strategy in predicted]
        return [*(candidate for *_, candidate in known), *others]

    @property
    def _results(self) -> list[dict[Strategy, Mapping[str, Any]]]:
        """The candidates that ran to the end, by strategy, without those that decide anew."""
        return [
            {
                strategy: each
                for each in result.candidates
                if each["status"] == "ok"
                and (strategy := from_data(each)) is not None
                and not strategy.decides
            }
            for result in self.results
        ]
