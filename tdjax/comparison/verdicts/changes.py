"""Two saved runs side by side: which answers held, and what else is not the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.verdicts.answers import FASTEST, QUESTIONS, Answer
from tdjax.comparison.verdicts.entry import Entry, Group, grouped
from tdjax.comparison.verdicts.records import Record
from tdjax.comparison.verdicts.standing import MARGIN

FORMAT = "tdjax-changes"
VERSION = 2

AGREES, CHANGED, REVERSED, OPEN = "agrees", "changed", "reversed", "open"
MOVED = 1.5
_CHANCE = ("date", "command")  # What is not a reason for another answer.


@dataclass(frozen=True)
class Setting:
    """Something of the machine, a version or a flag that differs; None is not known, or not set."""

    name: str
    old: Any
    new: Any


@dataclass(frozen=True)
class GroupChange:
    """A group that both runs have.

    Attributes:
        group: workload, target, evidence and mode.
        old, new: the answers.
        outcomes: for each question that both runs answer: "agrees", "changed" (from a clear answer
            to level, or back), "reversed" (the opposite, or another program is the fastest) or
            "open" (one of them does not tell).
        entries: what each run has of it, by strategy, in the order of the new one.
        warning: why its answers may differ, or cannot be compared; None where nothing is known.
    """

    group: Group
    old: Answer
    new: Answer
    outcomes: Mapping[str, str]
    entries: Mapping[str, tuple[Entry | None, Entry | None]]
    warning: str | None


@dataclass(frozen=True)
class Changes:
    """Two comparisons side by side.

    Attributes:
        old, new: the comparisons.
        groups: the groups that both have, in the order of the new one.
        only_old, only_new: the groups that one of them has.
        settings: what differs of machine, versions and flags.
    """

    old: Record
    new: Record
    groups: tuple[GroupChange, ...]
    only_old: tuple[Group, ...]
    only_new: tuple[Group, ...]
    settings: tuple[Setting, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many questions have each outcome."""
        found = [outcome for group in self.groups for outcome in group.outcomes.values()]
        return {outcome: found.count(outcome) for outcome in (AGREES, CHANGED, REVERSED, OPEN)}

    @property
    def summary(self) -> str:
        """The outcome of all questions in a sentence."""
        if not self.groups:
            return "the runs have nothing in common"
        agree, *rest = self.counts.items()
        all_ = agree[1] + sum(count for _, count in rest)
        said = [f"{count} {outcome}" for outcome, count in rest if count]
        return ", ".join([f"{agree[1]} of {all_} answers agree", *(said or ["none changed"])])

    def to_json(self) -> str:
        """Return the facts as JSON text."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "summary": self.summary,
            "counts": self.counts,
            **{name: _run(run) for name, run in (("old", self.old), ("new", self.new))},
            "settings": [asdict(setting) for setting in self.settings],
            "groups": [
                {
                    **change.group._asdict(),
                    "warning": change.warning,
                    "outcomes": dict(change.outcomes),
                    "old": change.old.to_json(),
                    "new": change.new.to_json(),
                }
                for change in self.groups
            ],
            "only_old": [group._asdict() for group in self.only_old],
            "only_new": [group._asdict() for group in self.only_new],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


def changes(old: Record, new: Record) -> Changes:
    """Set two comparisons side by side.

    Answers are ratios within a run, and are compared whichever machine they are from; where
    something differs that may change them, that is said. Another workload of the same name is not
    compared.

    Args:
        old: the earlier run.
        new: the later run.
    """
    before, after = ({a.group: a for a in run.answers} for run in (old, new))
    rows = [grouped(run.entries) for run in (old, new)]
    return Changes(
        old=old,
        new=new,
        groups=tuple(
            _change((old, new), (before[group], after[group]), [each[group] for each in rows])
            for group in after
            if group in before
        ),
        only_old=tuple(group for group in before if group not in after),
        only_new=tuple(group for group in after if group not in before),
        settings=_settings(old.environment, new.environment),
    )


def _change(
    runs: tuple[Record, Record], answers: tuple[Answer, Answer], rows: Sequence[Sequence[Entry]]
) -> GroupChange:
    group = answers[1].group
    named = [{entry.strategy: entry for entry in side} for side in rows]
    entries = {name: (named[0].get(name), named[1].get(name)) for name in named[1] | named[0]}
    works = [run.workloads.get(group.workload) for run in runs]
    if works[0] != works[1]:
        warning = f"not the same work, not compared: {works[0]} and {works[1]}"
        return GroupChange(group, *answers, {}, entries, warning)
    outcomes = {
        question: _outcome(question, answers, rows)
        for question in QUESTIONS
        if all(question in answer.said for answer in answers)
    }
    moved = _moved(runs[1].reference, entries.get(runs[1].reference))
    return GroupChange(group, *answers, outcomes, entries, moved)


def _moved(reference: str, sides: tuple[Entry | None, Entry | None] | None) -> str | None:
    """Return a warning where the reference itself is much faster or slower than before."""
    old, new = ((entry and entry.median_s) for entry in sides or (None, None))
    if not old or not new or 1 / MOVED <= old / new <= MOVED:
        return None
    times = " and then ".join(map(numbers.seconds, (old, new)))
    return f"{reference} itself took {times}: what is relative to it moved with it"


def _outcome(question: str, answers: tuple[Answer, Answer], rows: Sequence[Sequence[Entry]]) -> str:
    if any(question in answer.open for answer in answers):
        return OPEN
    if question == FASTEST:
        named = [_programs(answer.fastest, rows) for answer in answers]
        same = named[0] == named[1]
        return AGREES if same else CHANGED if named[0] & named[1] else REVERSED
    was, now = (_side(answer, question) for answer in answers)
    return AGREES if was == now else REVERSED if was * now < 0 else CHANGED


def _side(answer: Answer, question: str) -> int:
    """Return 1 where the ratio says faster, -1 slower, and 0 level."""
    value, low, high = getattr(answer, f"{question}_over_vmap")
    level = low is None or (low >= 1 / MARGIN and high <= MARGIN)
    return 0 if level else 1 if value > 1 else -1


def _programs(names: Sequence[str], runs: Sequence[Sequence[Entry]]) -> set[str]:
    """Return these strategies and those that are the same program in one of the runs."""
    found = set(names)
    for entries in runs:
        marks = {e.strategy: e.program or e.same_as or e.strategy for e in entries}
        own = {marks[name] for name in names if name in marks}
        found |= {name for name, mark in marks.items() if mark in own}
    return found


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Setting, ...]:
    # What only one run has, such as a compiler's version, did not matter to the other.
    names = [name for name in new if name in old and name not in _CHANCE]
    return tuple(Setting(name, old[name], new[name]) for name in names if old[name] != new[name])


def _run(run: Record) -> dict[str, Any]:
    return {
        "summary": run.summary,
        "environment": dict(run.environment),
        "reference": run.reference,
        "interrupted": run.interrupted,
    }
