"""Win, level or unclear: the answers of a group in one word, with the leader."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from tdjax.comparison.verdicts.answers import Answer, answers
from tdjax.comparison.verdicts.entry import Entry, Group, check_bounds
from tdjax.core.typed import one_of

KINDS = ("win", "level", "unclear", "none")


@dataclass(frozen=True)
class Verdict:
    """What can be said of one group of entries; `Answer` has more of it.

    Attributes:
        workload, target, evidence, mode: the group.
        kind: "win" (one program leads by more than 3%, the interval's near end included),
            "level" (others cannot be told apart from the leader; in a compiled group, which has
            no intervals, they are within 3%), "unclear" (the samples do not tell what was asked)
            or "none" (nothing ran).
        leader: the fastest strategy, or the one with the smallest figure of `metric`.
        tied: the strategies that cannot be told from the leader, without those that are the same
            program.
        speedup: how many times as fast the leader is as the reference, with `speedup_low` and
            `speedup_high`; None where the reference was not measured.
        text: the verdict in a sentence.
        advice: what would make it clear; None where nothing is needed.
        metric: what the ranking is by: "time" where samples were taken; in a compiled group
            "estimated_cycles" or "bytes_accessed", which are not times: there is no speedup.
        saving: in a compiled group, the reference's figure over the leader's.
    """

    workload: str
    target: str
    evidence: str
    mode: str
    kind: Annotated[str, one_of(*KINDS)]
    leader: str | None
    tied: tuple[str, ...]
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    text: str
    advice: str | None
    metric: Annotated[str, one_of("time", "estimated_cycles", "bytes_accessed")] = "time"
    saving: float | None = None

    def __post_init__(self) -> None:
        check_bounds("speedup", self.speedup_low, self.speedup_high)

    @property
    def group(self) -> Group:
        """The entries that this is about."""
        return Group(self.workload, self.target, self.evidence, self.mode)

    def leads(self, entry: Entry) -> bool:
        """Whether the entry won or is one of those that are level; none is when unclear."""
        if self.kind not in ("win", "level"):
            return False
        return bool({entry.strategy, entry.same_as} & {self.leader, *self.tied})

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "tied": list(self.tied)}


def judge(entries: Iterable[Entry], reference: str = "vmap") -> tuple[Verdict, ...]:
    """Return a verdict for every group of entries, in their order."""
    entries = tuple(entries)
    twins = {(e.group, e.strategy) for e in entries if e.same_as is not None}
    return tuple(_verdict(answer, twins) for answer in answers(entries, reference))


def _verdict(answer: Answer, twins: set[tuple[Group, str]]) -> Verdict:
    tied = tuple(name for name in answer.fastest[1:] if (answer.group, name) not in twins)
    speedup, low, high = answer.speedup or (None, None, None)
    return Verdict(
        *answer.group,
        answer.kind,
        answer.leader,
        tied,
        speedup,
        low,
        high,
        answer.text,
        answer.advice,
        answer.metric,
        answer.saving,
    )
