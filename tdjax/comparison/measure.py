"""Measuring one group: compile, first calls, rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import jax

from tdjax.comparison.candidate import Candidate, to_entry
from tdjax.comparison.entry import Entry, Group
from tdjax.comparison.first_call import FirstCalls
from tdjax.comparison.guard import Guard
from tdjax.comparison.program import build
from tdjax.comparison.rounds import Effort, measure_rounds
from tdjax.comparison.subject import Subject

Tell = Callable[[str, float], None]
"""Called with what is being done, and how much of the group is done (0 to 1)."""

_COMPILED = 0.6
_CALLED = 0.7


class Measurement:
    """One group being measured: a subject on a device in a mode, under several strategies.

    Args:
        subject: what runs.
        group: what its entries share.
        strategies: the strategy objects.
        reference: the strategy whose answer is right and whose time is 1.00.
        device: where it runs; None leaves the arrays where they lie.
        effort: how long it may take.
    """

    def __init__(
        self,
        subject: Subject,
        group: Group,
        strategies: Sequence[Any],
        reference: Any,
        device: jax.Device | None,
        effort: Effort,
    ) -> None:
        self.subject = subject
        self.group = group
        self.device = device
        self.effort = effort
        self.candidates = [Candidate(strategy) for strategy in strategies]
        listed = (c for c in self.candidates if c.strategy == reference)
        self.reference = next(listed, Candidate(reference, listed=False))

    @property
    def entries(self) -> list[Entry]:
        """What is known by now, one entry a candidate."""
        return [to_entry(c, self.group, self.reference) for c in self.candidates]

    def run(self, guard: Guard, tell: Tell) -> None:
        """Measure every candidate; those that fail or are too slow keep their reason.

        Raises:
            Exception: the function's own error, where it cannot be traced at all.
        """
        with nullcontext() if self.device is None else jax.default_device(self.device):
            arguments = self._arguments()
            candidates = [self.reference]
            candidates += [c for c in self.candidates if c is not self.reference]
            for index, candidate in enumerate(candidates):
                tell(f"compiling {candidate.name}", _COMPILED * index / len(candidates))
                self._build(candidate, arguments)
            _mark_twins(candidates)
            calls = FirstCalls(
                arguments, self.group.target, guard, self.effort.timeout_s, self.reference
            )
            # Programs that loop come last: by then there is a leader to hold them against.
            for candidate in sorted(filter(_runs, candidates), key=_risk(self.reference)):
                tell(f"first call of {candidate.name}", _COMPILED)
                calls.call(candidate)
            measure_rounds(
                [c for c in self.candidates if c.running],
                arguments,
                self.effort,
                seed=" ".join(self.group),
                tell=lambda text, done: tell(text, _CALLED + (1 - _CALLED) * done),
            )

    def _arguments(self) -> tuple[Any, Any]:
        cotangents = self.subject.cotangents(self.reference.strategy, self.group.mode)
        arguments = (self.subject.arrays, cotangents)
        return arguments if self.device is None else jax.device_put(arguments, self.device)

    def _build(self, candidate: Candidate, arguments: Sequence[Any]) -> None:
        function = self.subject.function(candidate.strategy, self.group.mode)
        try:
            candidate.program = build(function, arguments, self.subject.steps)
        except Exception as error:  # A strategy that cannot run here is a row with its reason.
            candidate.drop("failed", f"{type(error).__name__}: {error}")


def _runs(candidate: Candidate) -> bool:
    return candidate.running


def _risk(reference: Candidate) -> Callable[[Candidate], int]:
    def risk(candidate: Candidate) -> int:
        looping = candidate.program is not None and candidate.program.facts.loops
        return 0 if candidate is reference else 1 + looping

    return risk


def _mark_twins(candidates: Sequence[Candidate]) -> None:
    """Let later candidates with an earlier listed one's program share its samples."""
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        if candidate.program is None or not candidate.listed:
            continue
        if (mark := candidate.program.facts.program) is None:
            continue
        candidate.twin = first.get(mark)
        first.setdefault(mark, candidate)
