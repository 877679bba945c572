"""Several subjects, targets and modes in one comparison: measured first, then compiled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal, TypeAlias

from tdjax.comparison.comparison import Comparison
from tdjax.comparison.compiling.group import CompiledCandidate, CompiledGroup, Lowered, lower
from tdjax.comparison.compiling.queue import compile_groups
from tdjax.comparison.measuring.call_client import CallClient
from tdjax.comparison.measuring.group import Measurement
from tdjax.comparison.measuring.rounds import VISITS, Effort
from tdjax.comparison.subjects.benchmark import Benchmark
from tdjax.comparison.subjects.subject import MODES, Subject
from tdjax.comparison.system.progress import Progress
from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.targets.environment import environment
from tdjax.comparison.targets.target import Target
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.answers import AUTO, FOLD, Answer, answers
from tdjax.comparison.verdicts.density import Density
from tdjax.comparison.verdicts.entry import Entry, Group, grouped
from tdjax.comparison.verdicts.verdict import judge
from tdjax.strategies import parse
from tdjax.strategies.override import ignoring_override

# A group's first rounds take this part of its share of the time that is left. The rest is for
# compiling, and for returning to groups. They are as few as this where its share is of so many
# seconds: with less, compiling takes all of it, and there is no returning.
_FIRST_SHARE = 0.1
_FIRST_ROUNDS = 3
_TO_RETURN_S = 8.0
_TURN_S = 5.0
_TURN_ROUNDS = 6  # A turn begins with a round that warms up.
# On a slow machine measuring takes longer than planned; compilers still get this part of all.
_LEAST_TO_COMPILE = 0.25
_UNFINISHED = "interrupted while it was measured"
# What a run that goes on with another may do at another time, or for other devices.
_MAY_DIFFER = {"date", "devices", "command"}


@dataclass(frozen=True)
class Limits:
    """Seconds that a session should stay under.

    Attributes:
        measuring: for all groups that are measured.
        all: for everything. The time to compile for devices that are not here is what is left of
            it, and at least a quarter.
    """

    measuring: float
    all: float


Mode: TypeAlias = Literal["forward", "grad", "both"]
"""What is measured, for type checkers."""


def modes(mode: str) -> tuple[str, ...]:
    """Return the modes that "forward", "grad" or "both" asks for.

    Raises:
        ValueError: it is none of these.
    """
    if mode == "both":
        return MODES
    if mode not in MODES:
        raise ValueError(f"mode: got {mode!r}, needed 'forward', 'grad' or 'both'.")
    return (mode,)


class Session:
    """Runs jobs; what is known of them can be had as a comparison at any time.

    Programs for devices that are not here are lowered between measurements, and compiled after
    all of them: a compiler at work would disturb the samples.

    Args:
        targets: the devices.
        modes: "forward", "grad" or both.
        effort: how long one group may take.
        progress: who is told.
        limits: how long all jobs together may take; None: no such limit.
        control: whether to measure the reference twice.
        keep: called with what is known whenever a group is finished.
        earlier: a comparison to go on with: what it has of the same work is not measured again.

    Raises:
        ValueError: the earlier comparison was made on another machine, or with other versions.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        modes: Sequence[str],
        effort: Effort,
        progress: Progress,
        limits: Limits | None = None,
        control: bool = False,
        keep: Callable[[Comparison], None] | None = None,
        earlier: Comparison | None = None,
    ) -> None:
        self._targets = targets
        self._modes = modes
        self._effort = effort
        self._progress = progress
        self._limits = limits
        self._control = control
        self._reference = parse("vmap")
        self._groups: list[Measurement | CompiledGroup] = []
        self._workloads: dict[str, str] = {}
        self._densities: dict[str, Density] = {}
        self._environment: dict[str, Any] = dict(environment(targets))
        self._ceilings: dict[str, Ceilings] = {}
        self._keep = keep
        self._earlier: dict[Group, list[Entry]] = {}
        self._finished: set[Group] = set()
        if earlier is not None:
            self._go_on_from(earlier)
        self._clients = {t.name: CallClient(t.name) for t in targets if t.evidence == "measured"}
        self._peaks: list[Future[None]] = []
        self._door, self._room = threading.Lock(), threading.Lock()
        self._done = 0
        self._total = 0
        self._start = time.perf_counter()
        self.current: str | None = None

    def run(self, jobs: Sequence[Benchmark]) -> None:
        """Measure every job on every attached target in every mode, then compile for the others.

        What `auto` would choose by itself is compared, whatever `TDJAX_STRATEGY` says.
        """
        with ignoring_override():
            self._run(jobs)

    def _run(self, jobs: Sequence[Benchmark]) -> None:
        self._start = time.perf_counter()
        self._total = len(jobs) * len(self._targets) * len(self._modes)
        with ExitStack() as processes:
            self._beside = processes.enter_context(ThreadPoolExecutor(1))
            for client in self._clients.values():
                processes.enter_context(client)
            self._find_ceilings()
            for job in jobs:
                self.current = job.name
                self._progress.update(f"{job.name}: preparing", self._done / self._total)
                self._compare(job)
            self._find_peaks()
        self._look_again()
        self._compile([group for group in self._groups if isinstance(group, CompiledGroup)])

    def comparison(self, interrupted: bool = False) -> Comparison:
        """Return what is known so far; a group whose samples are not complete says so."""
        known = self._earlier | {group.group: group.entries for group in self._groups}
        for group in known.keys() - self._finished - self._earlier.keys():
            if group.evidence == "measured":
                known[group] = [replace(e, error=e.error or _UNFINISHED) for e in known[group]]
        return self._comparison(known, interrupted)

    def _comparison(self, known: Mapping[Group, Sequence[Entry]], interrupted: bool) -> Comparison:
        entries = tuple(entry for group in known.values() for entry in group)
        return Comparison(
            entries=entries,
            verdicts=judge(entries, str(self._reference)),
            reference=str(self._reference),
            workloads=dict(self._workloads),
            environment=self._environment,
            interrupted=interrupted,
            ceilings=dict(self._ceilings),
            densities=dict(self._densities),
        )

    def _go_on_from(self, earlier: Comparison) -> None:
        """Take over what was finished."""
        was, now = earlier.environment, self._environment
        apart = [name for name in now.keys() & was.keys() - _MAY_DIFFER if was[name] != now[name]]
        if apart:
            said = ", ".join(f"{name} was {was[name]} and is {now[name]}" for name in sorted(apart))
            raise ValueError(
                f"what was measured before cannot go on here: {said}. Measure anew, into another "
                "folder"
            )
        devices = [name for each in (was, now) for name in str(each["devices"]).split(", ")]
        self._environment = {**was, **now, "devices": ", ".join(dict.fromkeys(devices))}
        for group, entries in grouped(earlier.entries).items():
            if not any((entry.error or "").startswith("interrupted") for entry in entries):
                self._earlier[group] = entries
        self._workloads |= earlier.workloads
        self._densities |= earlier.densities
        self._ceilings |= earlier.ceilings

    def _has(self, group: Group, strategies: Sequence[Any]) -> bool:
        """Whether an earlier run finished a group with these strategies."""
        entries = [entry for entry in self._earlier.get(group, ()) if not entry.control]
        if not entries or {entry.strategy for entry in entries} != set(map(str, strategies)):
            return False
        self._done += 1
        self._log(f"{self._done}/{self._total}", group, self._answer(entries), ", from before")
        return True

    def _find_ceilings(self) -> None:
        for target in self._targets:
            self._progress.update(f"{target.name}: what it reaches at best", 0.0)
            found = _ceilings_of(target)
            if found is not None:
                self._ceilings[target.name] = found

    def _compare(self, job: Benchmark) -> None:
        subject, strategies = job.make()
        modes = self._modes_for(subject)
        self._total -= (len(self._modes) - len(modes)) * len(self._targets)
        if self._workloads.get(job.name) not in (None, subject.description):
            self._earlier = {g: e for g, e in self._earlier.items() if g.workload != job.name}
        self._workloads[job.name] = subject.description
        if job.density is not None:
            self._densities[job.name] = job.density
        known: dict[Any, Lowered] = {}
        for target in self._targets:
            for mode in modes:
                group = Group(job.name, target.name, target.evidence, mode)
                if self._has(group, strategies):
                    continue
                device = target.compiles_for
                if device is None:
                    self._measure(job, subject, strategies, group, target)
                    continue
                tell = self._tell(group)
                lowered = lower(subject, mode, strategies, self._reference, device, tell, known)
                made = CompiledGroup(group, device, lowered, self._reference, subject.steps)
                self._groups.append(made)

    def _measure(
        self,
        job: Benchmark,
        subject: Subject,
        strategies: Sequence[Any],
        group: Group,
        target: Target,
    ) -> None:
        measurement = Measurement(
            subject,
            group,
            strategies,
            self._reference,
            None if job.placed else target.device,
            self._share(),
            self._control,
            asked=(FOLD, AUTO),
        )
        self._groups.append(measurement)
        start = time.perf_counter()
        client = self._clients[target.name]
        with ExitStack() as calls:
            ready = partial(calls.enter_context, self._alone())
            measurement.measure(client, self._tell(group), ready)
        # Beside the compiling of what comes next, whose calls would disturb each other.
        self._peaks.append(self._beside.submit(measurement.find_peaks, client, self._alone))
        self._finish(group, measurement.entries, time.perf_counter() - start)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for the call that is being made, before others that would begin."""
        with self._door:
            self._room.acquire()
        try:
            yield
        finally:
            self._room.release()

    def _find_peaks(self) -> None:
        """Wait until the memory of all that was measured is known."""
        for found in self._peaks:
            found.result()

    def _look_again(self) -> None:
        """Look at every answer twice, then spend the time that is left where questions are open.

        A machine that others share is in one state for many seconds (loops over blocks that fit
        caches then take 1.8 times as long as in the next), which more rounds at once would not
        show. Of questions that are open, those are first that take least.
        """
        measured = [group for group in self._groups if isinstance(group, Measurement)]
        while (left := self._left_to_measure()) > 0:
            undecided = [(group.open_s, group) for group in measured if group.undecided]
            if not undecided:
                return
            once = [pair for pair in undecided if pair[1].visits < VISITS]
            open_s, group = once[0] if once else min(undecided, key=lambda pair: pair[0])
            turn = max(min(_TURN_S, open_s), _TURN_ROUNDS * group.round_s)
            left /= max(1, len(once))
            self.current = group.group.workload
            before = self._answer(group.entries)
            group.go_on(min(turn, left), self._tell(group.group))
            after = self._answer(group.entries)
            if (after.kind, after.open) != (before.kind, before.open):
                self._log("again", group.group, after)

    def _compile(self, groups: Sequence[CompiledGroup]) -> None:
        left = {group: sum(each.waiting for each in group.candidates) for group in groups}
        everything = sum(left.values())
        optimized: set[CompiledCandidate] = set()

        def finish(group: CompiledGroup) -> None:
            if left[group] == 0:
                seconds = sum(entry.compile_s or 0.0 for entry in group.entries)
                self._finish(group.group, group.entries, seconds)

        def progressed(group: CompiledGroup, candidate: CompiledCandidate, final: bool) -> None:
            if final:
                optimized.discard(candidate)
                left[group] -= 1
                finish(group)
            else:
                optimized.add(candidate)
            done = everything - sum(left.values())
            so_far = f"compiled {done} of {everything}"
            if optimized:
                so_far += f", optimized {len(optimized)} more that wait for their code"
            self._progress.update(
                f"{group.group.workload} on {group.group.target}: {so_far}",
                self._done / self._total,
            )

        for group in groups:
            finish(group)
        compile_groups(groups, self._effort.timeout_s, self._left_to_compile(), progressed)

    def _tell(self, group: Group) -> Callable[[str, float], None]:
        def tell(text: str, fraction: float) -> None:
            done = min(1.0, (self._done + fraction) / self._total)
            self._progress.update(f"{group.workload} {group.mode}: {text}", done)

        return tell

    def _finish(self, group: Group, entries: Sequence[Entry], seconds: float) -> None:
        self._done += 1
        mark = f"{self._done}/{self._total}"
        self._log(mark, group, self._answer(entries), f", {seconds:.1f} s")
        self._finished.add(group)
        finished = {g.group: g.entries for g in self._groups if g.group in self._finished}
        if self._keep is not None:
            self._keep(self._comparison(self._earlier | finished, interrupted=True))

    def _answer(self, entries: Sequence[Entry]) -> Answer:
        return answers(entries, str(self._reference))[0]

    def _log(self, mark: str, group: Group, answer: Answer, more: str = "") -> None:
        said = "; ".join(answer.said.values()) or answer.text
        where = f"{group.workload} {group.mode} on {group.target}{more}"
        self._progress.log(f"[{mark}] {where}: {naming.short(said)}")

    def _modes_for(self, subject: Subject) -> Sequence[str]:
        """Return the modes to measure: "forward" alone where there is no gradient."""
        if len(self._modes) == 1 or subject.has_gradient(self._reference):
            return self._modes
        self._progress.log(f"{subject.name}: forward only, there is nothing to differentiate")
        return tuple(mode for mode in self._modes if mode != "grad")

    def _share(self) -> Effort:
        """Return the next measurement's effort, whose rounds are shortened as time runs out."""
        if self._limits is None:
            return self._effort
        measured = sum(target.evidence == "measured" for target in self._targets)
        to_come = self._total * measured / len(self._targets) - self._done
        share = self._left_to_measure() / max(1.0, to_come)
        budget = max(0.3, min(self._effort.budget_s, _FIRST_SHARE * share))
        returns = {"fewest": _FIRST_ROUNDS} if share >= _TO_RETURN_S else {}
        return replace(self._effort, budget_s=budget, **returns)

    def _left_to_compile(self) -> float | None:
        if self._limits is None:
            return None
        left = self._limits.all - (time.perf_counter() - self._start)
        return max(left, _LEAST_TO_COMPILE * self._limits.all)

    def _left_to_measure(self) -> float:
        if self._limits is None:
            return 0.0
        return self._limits.measuring - (time.perf_counter() - self._start)


@cache
def _ceilings_of(target: Target) -> Ceilings | None:
    """Return what a target reaches at best; measured once in a process."""
    return target.ceilings()
