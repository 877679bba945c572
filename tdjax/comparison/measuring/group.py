"""Measuring one group: compile, first calls, rounds, then what is measured apart from time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax

from tdjax.comparison import numbers
from tdjax.comparison.measuring.call_client import CallClient
from tdjax.comparison.measuring.candidate import MeasuredCandidate, to_entry
from tdjax.comparison.measuring.device_time import device_seconds
from tdjax.comparison.measuring.first_call import FirstCalls
from tdjax.comparison.measuring.program import Building
from tdjax.comparison.measuring.rotation import Rotation
from tdjax.comparison.measuring.rounds import Effort, Pair, Rounds, Tell
from tdjax.comparison.measuring.wide_answer import answer_in_float32
from tdjax.comparison.peers import TensorFlowPeer
from tdjax.comparison.subjects.subject import Subject
from tdjax.comparison.system.memory import settle_allocator
from tdjax.comparison.verdicts.entry import Entry, Group
from tdjax.devices.attached import cache_bytes

_COMPILED = 0.5
_CALLED = 0.6
_TIMED = 0.9
# Programs of so many operations are unrolled over time. XLA cannot be stopped while it compiles
# one, so the time is estimated first.
_LARGE = 5000
_TOO_LARGE = "not compiled: its {:,} operations would take about {:.0f} s; the timeout is {:.3g} s"


class Measurement:
    """One group being measured: a subject on a device in a mode, under several strategies.

    Args:
        subject: what runs.
        group: what its entries share.
        strategies: the strategy objects.
        reference: the strategy whose answer is right and whose time is 1.00.
        device: where it runs; None leaves the arrays where they are.
        effort: how long it may take.
        control: whether to measure the reference twice, the second time under another name and
            compiled again: a sound measurement finds the two level.
        memory_budget: bytes of temporary memory; a candidate that takes more is not called.
        asked: strategies, by name, that are to be told apart from the reference, wherever they
            stand; of the others, only who is fastest is asked.
    """

    def __init__(
        self,
        subject: Subject,
        group: Group,
        strategies: Sequence[Any],
        reference: Any,
        device: jax.Device | None,
        effort: Effort,
        control: bool = False,
        memory_budget: int | None = None,
        asked: Sequence[str] = (),
    ) -> None:
        self.subject = subject
        self.group = group
        self.device = device
        self.effort = effort
        self.candidates = [MeasuredCandidate(strategy) for strategy in strategies]
        # A budget may rule the reference out as a choice; its answer is still the right one.
        listed = (c for c in self.candidates if c.strategy == reference and memory_budget is None)
        self.reference = next(listed, MeasuredCandidate(reference, listed=False))
        self._memory_budget = memory_budget
        self._asked = asked
        if control:
            self.candidates.append(MeasuredCandidate(reference, control=True))
        self._arguments: tuple[Any, Any] | None = None
        self._rounds: Rounds | None = None

    @property
    def undecided(self) -> bool:
        """Whether more rounds could close its questions."""
        return self._rounds is not None and self._rounds.undecided

    @property
    def visits(self) -> int:
        """How often rounds were begun."""
        return 0 if self._rounds is None else self._rounds.visits

    @property
    def round_s(self) -> float:
        """The seconds that a round of all that are still measured takes, about."""
        return 0.0 if self._rounds is None else self._rounds.round_s

    @property
    def open_s(self) -> float:
        """The seconds in which more rounds would close its open questions, about; 0 without any."""
        return 0.0 if self._rounds is None else self._rounds.open_s

    @property
    def entries(self) -> list[Entry]:
        """What is known so far, one entry a candidate."""
        return [to_entry(c, self.group, self.reference) for c in self.candidates]

    def measure(
        self, client: CallClient, tell: Tell, ready: Callable[[], object] = lambda: None
    ) -> None:
        """Measure every candidate's time; those that fail or are too slow keep their reason.

        Args:
            client: calls programs in other processes.
            tell: called with what is being done.
            ready: called when all programs are compiled: returns when nothing else is at work.

        Raises:
            Exception: the function's own error, where it cannot be traced at all.
        """
        self.check(client, tell, ready)
        with self._on_device():
            inputs = self._rotation()
            running = [c for c in self.candidates if c.running]
            seed = " ".join(self.group)
            self._rounds = Rounds(running, self.effort, seed, self._pairs(running))
            self._rounds.begin(
                inputs, lambda text, done: tell(text, _CALLED + (_TIMED - _CALLED) * done)
            )
            if self.group.target != "cpu":  # A CPU's profile shows its threads, not its work.
                self._find_device_seconds(inputs, tell)

    def check(
        self,
        client: CallClient,
        tell: Tell,
        ready: Callable[[], object] = lambda: None,
        patient: bool = False,
    ) -> None:
        """Call every candidate once, and compare its answer with the right one.

        Args:
            client: calls programs in other processes.
            tell: called with what is being done.
            ready: called when all programs are compiled: returns when nothing else is at work.
            patient: whether candidates that are far slower than the leader are called to the end.
        """
        settle_allocator()
        with self._on_device():
            arguments = self._arguments = self._make_arguments()
            candidates = [self.reference]
            candidates += [c for c in self.candidates if c is not self.reference]
            self._build(candidates, arguments, tell)
            _mark_twins(candidates)
            ready()
            calls = FirstCalls(
                arguments,
                self.group.target,
                client,
                self.effort.timeout_s,
                self.reference,
                len(self.subject.differentiated) if self.group.mode == "grad" else 0,
                answer_in_float32(
                    self.subject.function(self.reference.strategy, self.group.mode), arguments
                ),
                patient,
            )
            # Programs that loop come last: by then there is a leader to compare them with.
            running = [c for c in candidates if c.running]
            for candidate in sorted(running, key=self._risk):
                tell(f"first call of {candidate.name}", _COMPILED)
                calls.call(candidate)

    def go_on(self, budget_s: float, tell: Tell) -> None:
        """Take more rounds, for so many seconds at most."""
        assert self._rounds is not None
        with self._on_device():
            self._rounds.go_on(self._rotation(), budget_s, tell)

    def find_peaks(
        self, client: CallClient, alone: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """Measure the peak memory of every candidate, which work beside it does not change.

        Args:
            client: calls programs in other processes.
            alone: entered for every call.
        """
        assert self._arguments is not None
        for candidate in self._finished():
            assert candidate.program is not None
            with alone():
                candidate.peak_bytes = client.peak_memory(
                    candidate.program, self._arguments, self.effort.timeout_s
                )

    def _find_device_seconds(self, inputs: Rotation, tell: Tell) -> None:
        finished = self._finished()
        for index, candidate in enumerate(finished):
            tell(f"{candidate.name} on the device", _TIMED + (1 - _TIMED) * index / len(finished))
            assert candidate.program is not None
            call_s = candidate.call_s or 0.0
            candidate.device_s = device_seconds(candidate.program, inputs, call_s)

    def _finished(self) -> list[MeasuredCandidate]:
        return [c for c in self.candidates if c.running and not c.control]

    def _pairs(self, running: Sequence[MeasuredCandidate]) -> list[Pair]:
        """Return who is to be told apart from the reference, by distinct programs.

        So is the reference's control, which should be found level.
        """
        base = self.reference.twin or self.reference
        named = [c.twin or c for c in self.candidates if c.name in self._asked or c.control]
        return [
            (c, base) for c in dict.fromkeys(named) if c is not base and {c, base} <= {*running}
        ]

    def _on_device(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.device is None else jax.default_device(self.device)

    def _risk(self, candidate: MeasuredCandidate) -> int:
        looping = candidate.program is not None and candidate.program.facts.loops
        return 0 if candidate is self.reference else 1 + looping

    def _rotation(self) -> Rotation:
        assert self._arguments is not None
        return Rotation(self._arguments, self.subject.streamed, cache_bytes(self.group.target))

    def _make_arguments(self) -> tuple[Any, Any]:
        cotangents = self.subject.cotangents(self.reference.strategy, self.group.mode)
        arguments = (self.subject.arrays, cotangents)
        return arguments if self.device is None else jax.device_put(arguments, self.device)

    def _build(
        self, candidates: Sequence[MeasuredCandidate], arguments: Sequence[Any], tell: Tell
    ) -> None:
        compiler = ThreadPoolExecutor(1)
        try:
            building: list[tuple[MeasuredCandidate, Building | None]] = []
            for candidate in candidates:
                before = [begun for _, begun in building if begun is not None]
                building.append((candidate, self._begin(candidate, arguments, compiler, before)))
            for index, (candidate, begun) in enumerate(building):
                tell(f"compiling {candidate.name}", _COMPILED * index / len(candidates))
                if begun is not None:
                    _finish(candidate, begun)
                if candidate is not self.reference:
                    self._check_budget(candidate)
        finally:
            compiler.shutdown(cancel_futures=True)

    def _check_budget(self, candidate: MeasuredCandidate) -> None:
        if self._memory_budget is None or candidate.program is None:
            return
        taken = candidate.program.temp_bytes
        if taken is not None and taken > self._memory_budget:
            allowed = numbers.memory(self._memory_budget)
            candidate.drop("failed", f"takes {numbers.memory(taken)}, the budget is {allowed}")

    def _begin(
        self,
        candidate: MeasuredCandidate,
        arguments: Sequence[Any],
        compiler: Executor,
        before: Sequence[Building],
    ) -> Building | None:
        mode = self.group.mode
        function = self.subject.function(candidate.strategy, mode)
        try:
            building: Any
            if isinstance(candidate.strategy, TensorFlowPeer):
                from tdjax.comparison.measuring.tensorflow import TensorFlowBuilding

                building = TensorFlowBuilding(self.subject, candidate.strategy, arguments, mode)
            else:
                building = Building(function, arguments, self.subject.steps, mode)
            same = (each for each in before if each.text == building.text and not candidate.control)
            if building.operations > _LARGE and before:
                seconds, most = building.expected_s(before[0]), self.effort.timeout_s
                if seconds > most:
                    candidate.drop("timeout", _TOO_LARGE.format(building.operations, seconds, most))
                    return None
        except Exception as error:  # A strategy that cannot run here is a row with its reason.
            candidate.drop("failed", f"{type(error).__name__}: {error}")
            return None
        building.start(compiler, next(same, None))
        return building


def _finish(candidate: MeasuredCandidate, building: Building) -> None:
    try:
        candidate.program = building.finish()
    except Exception as error:  # So is one that its compiler refuses.
        candidate.drop("failed", f"{type(error).__name__}: {error}")


def _mark_twins(candidates: Sequence[MeasuredCandidate]) -> None:
    """Let candidates with the same program as an earlier, listed one share its samples."""
    first: dict[str, MeasuredCandidate] = {}
    for candidate in candidates:
        if candidate.program is None or candidate.control or not candidate.listed:
            continue
        if (mark := candidate.program.facts.program) is None:
            continue
        candidate.twin = first.get(mark)
        first.setdefault(mark, candidate)
