"""Win, tie or unstable: what the samples of a group show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np

from tdjax.comparison import numbers
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.compiled_ranking import rank
from tdjax.comparison.verdicts.entry import Entry, Group, check_bounds, grouped
from tdjax.comparison.verdicts.intervals import Interval, paired_medians, paired_ratio
from tdjax.comparison.verdicts.standing import BEHIND, LEVEL, MIN_ROUNDS, UNCLEAR, standing
from tdjax.core.typed import one_of

NOISY = 0.25
KINDS = ("win", "tie", "unstable", "none")


@dataclass(frozen=True)
class Verdict:
    """What can be said of one group of entries.

    Attributes:
        workload, target, evidence, mode: the group.
        kind: "win" (one program leads by more than 5%, the interval's near end included),
            "tie" (others are within 5% of the leader, their intervals within 8%; in a
            compiled group, which has no intervals, within 3%), "unstable" (the samples do not
            tell) or "none" (nothing ran).
        leader: the strategy with the smallest median, or the smallest figure of `metric`.
        tied: the strategies that cannot be told from the leader: level with it under
            "tie", and not told apart under "unstable".
        speedup: the reference's time over the leader's, with `speedup_low` and
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
        """Whether the entry won or is one of those that tie; none does when unstable."""
        if self.kind not in ("win", "tie"):
            return False
        return bool({entry.strategy, entry.same_as} & {self.leader, *self.tied})

    def fastest(self) -> str:
        """Return the leader and those that cannot be told from it, the names of three at most."""
        found = [self.leader, *self.tied] if self.leader else []
        shown = [naming.short(name) for name in found[:3]]
        return ", ".join(shown) + (f" and {len(found) - 3} more" if len(found) > 3 else "")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "tied": list(self.tied)}


def judge(entries: Iterable[Entry], reference: str = "vmap") -> tuple[Verdict, ...]:
    """Return a verdict for every group of entries, in their order."""
    return tuple(
        _judge_compiled(group, rows, reference)
        if group.evidence == "compiled"
        else _judge(group, rows, reference)
        for group, rows in grouped(entries).items()
    )


def _judge_compiled(group: Group, entries: Sequence[Entry], reference: str) -> Verdict:
    unknown: dict[str, Any] = dict.fromkeys(("speedup", "speedup_low", "speedup_high", "advice"))
    return Verdict(**group._asdict(), **rank(entries, reference)._asdict(), **unknown)


def _judge(group: Group, entries: Sequence[Entry], reference: str) -> Verdict:
    controls = [entry for entry in entries if entry.control and entry.measured]
    entries = [entry for entry in entries if not entry.control]
    measured = [entry for entry in entries if entry.measured]
    if not measured:
        return Verdict(*group, "none", None, (), None, None, None, "nothing ran to the end", None)
    against = next((entry for entry in measured if entry.strategy == reference), None)
    times = paired_medians(measured)
    leader = min(measured, key=lambda entry: times[entry.strategy])
    if leader.same_as is not None:
        leader = next((e for e in measured if e.strategy == leader.same_as), leader)
    rivals = [e for e in measured if e.program != leader.program or e.program is None]
    rivals = [e for e in rivals if e is not leader and e.same_as is None] or controls
    stand = {rival.strategy: standing(rival.samples_s, leader.samples_s) for rival in rivals}
    level = tuple(name for name, where in stand.items() if where == LEVEL)
    unclear = tuple(name for name, where in stand.items() if where == UNCLEAR)
    doubt = None if against is None else _doubt(against, controls)
    if unclear or (doubt is not None and rivals):
        kind, tied = "unstable", (*level, *unclear)
    elif level:
        kind, tied = "tie", level
    else:
        kind, tied = "win", ()
    speedup = _speedup(leader, against)
    text = _sentence(kind, leader, tied, rivals, entries, speedup, reference)
    advice = doubt or _advice(leader, rivals) if kind == "unstable" else None
    return Verdict(*group, kind, leader.strategy, tied, *speedup, text, advice)


def _doubt(against: Entry, controls: Sequence[Entry]) -> str | None:
    """Return what a control that differs from the reference says of the samples."""
    for control in controls:
        pair = control.samples_s, against.samples_s
        if BEHIND in (standing(*pair), standing(*reversed(pair))):
            ratio = _times(paired_ratio(*pair))
            return (
                f"{control.strategy} took {ratio} the time of {against.strategy}, the same "
                "program: free the machine of other work, then measure again"
            )
    return None


def _speedup(
    leader: Entry, against: Entry | None
) -> tuple[float | None, float | None, float | None]:
    if against is None:
        return None, None, None
    if against is leader or against.same_as == leader.strategy:
        return 1.0, 1.0, 1.0
    return paired_ratio(against.samples_s, leader.samples_s)


def _sentence(
    kind: str,
    leader: Entry,
    tied: Sequence[str],
    rivals: Sequence[Entry],
    entries: Sequence[Entry],
    speedup: tuple[float | None, float | None, float | None],
    reference: str,
) -> str:
    twins = [e.strategy for e in entries if e.same_as == leader.strategy]
    lead = " = ".join([leader.strategy, *twins])
    if not rivals:
        if twins:
            return f"{lead}: the compiler made the same program of them"
        others = [e for e in entries if e is not leader]
        return f"{lead}: no other candidate ran to the end" if others else f"{lead} ran alone"
    if kind == "unstable" and not tied:
        return f"{lead} leads, by samples that cannot be trusted"
    if kind == "unstable":
        return f"{numbers.join([lead, *tied])} cannot be told apart yet"
    by_strategy = {rival.strategy: rival for rival in rivals}
    if kind == "tie":
        text = f"{numbers.join([lead, *tied])} are level"
    else:
        runner_up = min(rivals, key=lambda entry: entry.median_s or 0.0)
        behind = paired_ratio(by_strategy[runner_up.strategy].samples_s, leader.samples_s)
        text = f"{lead} leads; next is {runner_up.strategy}, {_times(behind)} its time"
    value, low, high = speedup
    if value is not None and leader.strategy != reference and reference not in (*twins, *tied):
        text += f"; {_times(Interval(value, low, high))} as fast as {reference}"
    return text


def _times(ratio: Interval) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.3g}x"
    return f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"


def _advice(leader: Entry, rivals: Sequence[Entry]) -> str:
    """Return what helps: a quieter machine, or more rounds."""
    variation = max(_variation(entry.samples_s) for entry in (leader, *rivals))
    if variation > NOISY:
        return (
            f"samples of one program vary by {variation:.0%}: "
            "free the machine of other work, then measure again"
        )
    rounds = len(leader.samples_s)
    return f"ask for more rounds than {rounds}: rounds={max(4 * rounds, 20)}"


def _variation(samples: Sequence[float]) -> float:
    """Return the interquartile range over the median."""
    if len(samples) < MIN_ROUNDS:
        return 0.0
    low, middle, high = np.quantile(samples, (0.25, 0.5, 0.75))
    return float((high - low) / middle)
