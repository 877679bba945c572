"""A candidate while it is being measured; it becomes an `Entry` at any time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tdjax.comparison.measuring.program import CompiledProgram
from tdjax.comparison.verdicts.entry import Entry, Group
from tdjax.comparison.verdicts.intervals import figures


@dataclass(eq=False)
class MeasuredCandidate:
    """One strategy's progress through a group.

    Attributes:
        strategy: the strategy object.
        listed: whether it becomes an entry; a reference that was not asked for does not.
        control: whether it is the reference once more, which only its name tells apart.
        program: the compiled program, once there is one.
        twin: the candidate before it with the same program, whose samples it shares.
        status, error: as in `Entry`.
        first_run_s, call_s: seconds of the first call, and of one that follows it.
        calls_per_sample: how many calls one sample times together.
        turns: of how many such times a sample is the shortest.
        samples: seconds a call, one a round.
        max_rel_error, device_s, peak_bytes: as in `Entry`.
        disagrees: whether its answer is wrong.
    """

    strategy: Any
    listed: bool = True
    control: bool = False
    program: CompiledProgram | None = None
    twin: MeasuredCandidate | None = None
    status: str = "ok"
    error: str | None = None
    first_run_s: float | None = None
    call_s: float | None = None
    calls_per_sample: int | None = None
    turns: int = 1
    samples: list[float] = field(default_factory=list)
    max_rel_error: float | None = None
    device_s: float | None = None
    peak_bytes: int | None = None
    disagrees: bool = False

    @property
    def name(self) -> str:
        """The strategy's name."""
        return f"{self.strategy} (again)" if self.control else str(self.strategy)

    @property
    def running(self) -> bool:
        """Whether it is still measured, and not only as the twin of another."""
        return self.status == "ok" and self.program is not None and self.twin is None

    def drop(self, status: str, error: str) -> None:
        """Measure it no further; keep the reason in one line."""
        self.status, self.error = status, " ".join(error.split())


def to_entry(candidate: MeasuredCandidate, group: Group, reference: MeasuredCandidate) -> Entry:
    """Return what is known of a candidate so far."""
    source = candidate.twin or candidate
    status, error = source.status, source.error
    samples = tuple(source.samples)
    if status == "ok" and not samples:
        status, error = "failed", "interrupted before it was measured"
    against = (reference.twin or reference).samples if reference.listed else ()
    program = candidate.program
    facts = {} if program is None else program.to_entry()
    if program is not None and program.chose and getattr(candidate.strategy, "decides", False):
        facts["chose"] = ", ".join(program.chose)
    facts |= figures(samples, against)
    return Entry(
        *group,
        strategy=candidate.name,
        control=candidate.control,
        status=status,
        error=error,
        samples_s=samples,
        calls_per_sample=source.calls_per_sample if samples else None,
        first_run_s=candidate.first_run_s,
        same_as=None if candidate.twin is None else candidate.twin.name,
        max_rel_error=source.max_rel_error,
        device_s=source.device_s,
        peak_bytes=source.peak_bytes,
        **facts,
    )
