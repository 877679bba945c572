"""Several subjects, targets and modes, measured one after the other into one comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tdjax.comparison.entry import Group
from tdjax.comparison.environment import environment
from tdjax.comparison.guard import Guard
from tdjax.comparison.measure import Measurement
from tdjax.comparison.progress import Progress
from tdjax.comparison.result import Comparison
from tdjax.comparison.rounds import Effort
from tdjax.comparison.subject import MODES, Subject
from tdjax.comparison.targets import Target
from tdjax.comparison.verdict import judge


@dataclass(frozen=True)
class Job:
    """A subject that is made when its turn comes, with the strategies to compare on it.

    Attributes:
        name: the workload's name.
        make: gives the subject.
        strategies: the strategy objects, the same in every mode.
        placed: whether its arrays already lie where they should run.
    """

    name: str
    make: Callable[[], tuple[Subject, Sequence[Any]]]
    placed: bool = False


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
    """Runs jobs, and has a comparison of what is measured at any time.

    Args:
        targets: the devices.
        modes: "forward", "grad" or both.
        effort: how long one group may take.
        progress: who is told.
        deadline_s: seconds that all jobs together should stay under; None: no such limit.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        modes: Sequence[str],
        effort: Effort,
        progress: Progress,
        deadline_s: float | None = None,
    ) -> None:
        from tdjax.strategies import parse

        self._targets = targets
        self._modes = modes
        self._effort = effort
        self._progress = progress
        self._deadline_s = deadline_s
        self._reference = parse("vmap")
        self._measurements: list[Measurement] = []
        self._workloads: dict[str, str] = {}
        self._environment = environment(targets)
        self.current: str | None = None

    def run(self, jobs: Sequence[Job]) -> None:
        """Measure every job on every target in every mode."""
        start = time.perf_counter()
        total = len(jobs) * len(self._targets) * len(self._modes)
        done = 0
        with Guard() as guard:
            for job in jobs:
                self.current = job.name
                self._progress.update(f"{job.name}: preparing", done / total)
                subject, strategies = job.make()
                modes = self._modes_for(subject)
                self._workloads[job.name] = subject.description
                for target in self._targets:
                    for mode in modes:
                        left = None
                        if self._deadline_s is not None:
                            spent = time.perf_counter() - start
                            left = (self._deadline_s - spent) / (total - done)
                        measurement = Measurement(
                            subject,
                            Group(job.name, target.name, target.evidence, mode),
                            strategies,
                            self._reference,
                            None if job.placed else target.device,
                            self._share(left),
                        )
                        self._measurements.append(measurement)
                        self._measure(measurement, guard, done, total)
                        done += 1

    def comparison(self, interrupted: bool = False) -> Comparison:
        """Return what is measured by now."""
        entries = tuple(entry for m in self._measurements for entry in m.entries)
        return Comparison(
            entries=entries,
            verdicts=judge(entries, str(self._reference)),
            reference=str(self._reference),
            workloads=dict(self._workloads),
            environment=self._environment,
            interrupted=interrupted,
        )

    def _measure(self, measurement: Measurement, guard: Guard, done: int, total: int) -> None:
        group = measurement.group
        where = f"{group.workload} {group.mode}"
        start = time.perf_counter()

        def tell(text: str, fraction: float) -> None:
            self._progress.update(f"{where}: {text}", (done + fraction) / total)

        measurement.run(guard, tell)
        seconds = time.perf_counter() - start
        verdict = judge(measurement.entries, str(self._reference))[0]
        self._progress.log(
            f"[{done + 1}/{total}] {where} on {group.target}, {seconds:.1f} s: "
            f"{verdict.kind}: {verdict.text}"
        )

    def _modes_for(self, subject: Subject) -> Sequence[str]:
        """Return the modes to measure: without "grad" if there is another, and no gradient."""
        if len(self._modes) == 1 or subject.has_gradient(self._reference):
            return self._modes
        self._progress.log(f"{subject.name}: forward only, there is nothing to differentiate")
        return tuple(mode for mode in self._modes if mode != "grad")

    def _share(self, left_s: float | None) -> Effort:
        """Return this group's effort; when time runs out, its rounds take the cut."""
        if left_s is None:
            return self._effort
        return replace(self._effort, budget_s=max(0.3, min(self._effort.budget_s, 0.4 * left_s)))
