"""Two saved runs side by side: which verdicts held, and what became faster or slower."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tdjax.comparison.verdicts.entry import Entry, Group, grouped
from tdjax.comparison.verdicts.intervals import CONFIDENCE, RESAMPLES, Interval
from tdjax.comparison.verdicts.metric import BYTES, CYCLES
from tdjax.comparison.verdicts.records import Record
from tdjax.comparison.verdicts.verdict import Verdict

FORMAT = "tdjax-changes"
VERSION = 1

TEMP = "temp_bytes"
FIGURES = (CYCLES, BYTES, TEMP)

AGREES, REVERSED, CHANGED = "agrees", "reversed", "changed"

# What decides a time, and what changes with every run.
_MACHINE = ("processor", "cores")
_NOT_SETTINGS = ("date", "devices", *_MACHINE)
_SHOWN = (
    "status", "error", "median_s", "median_low_s", "median_high_s", "ratio", "ratio_low",
    "ratio_high", "compile_s", "temp_bytes", "peak_bytes", "device_s", "flops",
    "bytes_accessed", "estimated_cycles", "same_as",
)  # fmt: skip


@dataclass(frozen=True)
class StrategyChange:
    """One strategy of a group, in both runs.

    Attributes:
        strategy: its name.
        old, new: its entries; None in a run that does not have it.
        ratio: new time over old time with its 95% interval, of independent samples; None where
            one of them was not measured to the end, or where the times are not compared.
        figures: new over old of the compiler's figures, in a compiled group: "estimated_cycles",
            "bytes_accessed" and "temp_bytes"; None for one that is not known, or was 0.
    """

    strategy: str
    old: Entry | None
    new: Entry | None
    ratio: Interval | None
    figures: Mapping[str, float | None]

    @property
    def same(self) -> bool:
        """Whether the compiler's figures are the same in both runs; they do not vary by chance."""
        if self.old is None or self.new is None or self.old.status != self.new.status:
            return False
        return all(getattr(self.old, name) == getattr(self.new, name) for name in FIGURES)


@dataclass(frozen=True)
class GroupChange:
    """A group that both runs have.

    Attributes:
        group: workload, target, evidence and mode.
        old, new: the verdicts.
        outcome: "agrees": the same kind, of the same programs; "reversed": both are wins, of
            different programs; else "changed". None where the runs are not compared.
        strategies: all that one of the runs has.
        apart: why its figures are not compared; None where they are.
    """

    group: Group
    old: Verdict | None
    new: Verdict | None
    outcome: str | None
    strategies: tuple[StrategyChange, ...]
    apart: str | None

    @property
    def is_win(self) -> bool:
        """Whether one of the verdicts, at least, is a win, and they are compared."""
        kinds = {verdict.kind for verdict in (self.old, self.new) if verdict is not None}
        return self.outcome is not None and "win" in kinds


@dataclass(frozen=True)
class Setting:
    """A version or flag that both runs had and that differs; None is not known, or not set."""

    name: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Changes:
    """Two comparisons side by side.

    Attributes:
        old, new: the comparisons.
        groups: the groups that both have, in the order of the new one.
        only_old, only_new: the groups that one of them has.
        settings: the versions and flags that differ.
    """

    old: Record
    new: Record
    groups: tuple[GroupChange, ...]
    only_old: tuple[Group, ...]
    only_new: tuple[Group, ...]
    settings: tuple[Setting, ...]

    @property
    def apart(self) -> tuple[str, ...]:
        """Why groups are not compared, each reason once."""
        return tuple(dict.fromkeys(group.apart for group in self.groups if group.apart))

    @property
    def wins(self) -> int:
        """How many groups have a win in either run, and are compared."""
        return sum(group.is_win for group in self.groups)

    @property
    def agreeing(self) -> int:
        """How many of `wins` agree."""
        return sum(group.is_win and group.outcome == AGREES for group in self.groups)

    @property
    def reversed(self) -> int:
        """How many of `wins` are a win of another program."""
        return sum(group.outcome == REVERSED for group in self.groups)

    @property
    def ratios(self) -> tuple[float, ...]:
        """New over old time, once for every strategy that has samples of its own."""
        rows = [row for group in self.groups for row in group.strategies if row.ratio is not None]
        return tuple(row.ratio.value for row in rows if row.ratio and not _is_twin(row))

    @property
    def mean_ratio(self) -> float | None:
        """The geometric mean of `ratios`."""
        if not self.ratios:
            return None
        return math.exp(sum(map(math.log, self.ratios)) / len(self.ratios))

    @property
    def compiled(self) -> tuple[StrategyChange, ...]:
        """The strategies that both runs compiled for a device that is not here."""
        groups = [group for group in self.groups if group.group.evidence == "compiled"]
        rows = [row for group in groups if not group.apart for row in group.strategies]
        return tuple(row for row in rows if row.old is not None and row.new is not None)

    def to_json(self) -> str:
        """Return the facts as JSON text."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "old": _run_to_json(self.old),
            "new": _run_to_json(self.new),
            "settings": [asdict(setting) for setting in self.settings],
            "not_compared": list(self.apart),
            "groups": [_group_to_json(group) for group in self.groups],
            "only_old": [group._asdict() for group in self.only_old],
            "only_new": [group._asdict() for group in self.only_new],
            "wins": self.wins,
            "agreeing": self.agreeing,
            "reversed": self.reversed,
            "mean_ratio": self.mean_ratio,
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


def changes(old: Record, new: Record) -> Changes:
    """Set two comparisons side by side.

    Times are compared where device, processor and cores are the same; the compiler's figures
    for a device that is not here, whichever machine it ran on. Neither is compared where the
    workload is not the same. An interval covers the noise within the runs; what differs from day
    to day, such as other programs on the machine, is in the ratio itself.

    Args:
        old: the earlier run.
        new: the later run.
    """
    before, after = grouped(old.entries), grouped(new.entries)
    verdicts = [{verdict.group: verdict for verdict in run.verdicts} for run in (old, new)]
    groups = []
    for group in after:
        if group in before:
            apart = _apart(group, old, new)
            was, now = (known.get(group) for known in verdicts)
            rows = _rows(before[group], after[group], apart is not None)
            outcome = None if apart else _outcome(was, now, (before[group], after[group]))
            groups.append(GroupChange(group, was, now, outcome, rows, apart))
    return Changes(
        old=old,
        new=new,
        groups=tuple(groups),
        only_old=tuple(group for group in before if group not in after),
        only_new=tuple(group for group in after if group not in before),
        settings=_settings(old.environment, new.environment),
    )


def machine(comparison: Record, target: str) -> str:
    """Return what decides the times of an attached target: "cpu (AMD EPYC, 2 cores)"."""
    known = comparison.environment
    cores = known.get("cores")
    host = (
        str(known.get("processor") or "unknown processor"),
        "unknown number of cores" if cores is None else f"{cores} cores",
    )
    device = _device(known, target)
    start = f"{device[:-1]}; " if device.endswith(")") else f"{device} ("
    return f"{start}{', '.join(host)})"


def _device(environment: Mapping[str, Any], target: str) -> str:
    """Return the device that a target was: "gpu x 8 (NVIDIA H200)"."""
    for device in str(environment.get("devices") or "").split(", "):
        if device == target or device.startswith(f"{target} "):
            return device
    return target


def _apart(group: Group, old: Record, new: Record) -> str | None:
    """Return why the figures of a group that both runs have cannot be compared."""
    was, now = (run.workloads.get(group.workload) for run in (old, new))
    if was != now:
        return f"{group.workload} is not the same work: {was} and {now}: it is not compared"
    if group.evidence == "compiled":
        return None
    machines = [machine(run, group.target) for run in (old, new)]
    if machines[0] == machines[1]:
        return None
    return f"measured on different devices: {' and '.join(machines)}: times are not compared"


def _rows(old: Sequence[Entry], new: Sequence[Entry], apart: bool) -> tuple[StrategyChange, ...]:
    before = {entry.strategy: entry for entry in old}
    after = {entry.strategy: entry for entry in new}
    rows = []
    for strategy in dict.fromkeys((*after, *before)):
        was, now = before.get(strategy), after.get(strategy)
        ratio: Interval | None = None
        figures: dict[str, float | None] = {}
        if was is not None and now is not None and not apart:
            if was.measured and now.measured:
                ratio = _ratio_of_medians(now.samples_s, was.samples_s)
            if was.evidence == "compiled":
                figures = {name: _quotient(was, now, name) for name in FIGURES}
        rows.append(StrategyChange(strategy, was, now, ratio, figures))
    return tuple(rows)


def _ratio_of_medians(samples: Sequence[float], against: Sequence[float]) -> Interval:
    """Return the ratio of two medians with its bootstrap interval.

    The samples are of different runs and not paired, so each side is resampled independently.
    """
    top, bottom = (np.asarray(side, dtype=np.float64) for side in (samples, against))
    value = float(np.median(top) / np.median(bottom))
    if min(len(top), len(bottom)) < 2:
        return Interval(value, None, None)
    random = np.random.default_rng(0)
    medians = [
        np.median(side[random.integers(0, len(side), (RESAMPLES, len(side)))], axis=1)
        for side in (top, bottom)
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians[0] / medians[1], (tail, 1 - tail))
    return Interval(value, float(low), float(high))


def _quotient(old: Entry, new: Entry, name: str) -> float | None:
    was, now = getattr(old, name), getattr(new, name)
    if was is None or now is None:
        return None
    if was == now:
        return 1.0
    return float(now / was) if was else None


def _outcome(
    old: Verdict | None, new: Verdict | None, runs: Sequence[Sequence[Entry]]
) -> str | None:
    if old is None or new is None:
        return None
    if old.kind != new.kind:
        return CHANGED
    if old.kind in ("unstable", "none"):
        return AGREES
    named = [_programs(verdict, runs) for verdict in (old, new)]
    if old.kind == "win":
        return AGREES if named[0] & named[1] else REVERSED
    return AGREES if named[0] == named[1] else CHANGED


def _programs(verdict: Verdict, runs: Sequence[Sequence[Entry]]) -> set[str]:
    """Return the strategies that a verdict names, with those that are the same program."""
    names = {verdict.leader or "", *verdict.tied}
    for entries in runs:
        marks = {e.strategy: e.program or e.same_as or e.strategy for e in entries}
        own = {marks[name] for name in names if name in marks}
        names = names | {name for name, mark in marks.items() if mark in own}
    return names


def _is_twin(row: StrategyChange) -> bool:
    """Whether both runs have its samples under the name of another strategy as well."""
    return all(entry is not None and entry.same_as is not None for entry in (row.old, row.new))


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Setting, ...]:
    # What only one run has, such as a compiler's version, did not matter to the other.
    names = [name for name in new if name in old and name not in _NOT_SETTINGS]
    return tuple(Setting(name, old[name], new[name]) for name in names if old[name] != new[name])


def describe(verdict: Verdict | None) -> str:
    """Return a verdict in a few words: "win: fold", "tie: vmap, fold"."""
    if verdict is None:
        return "no verdict"
    named = verdict.fastest()
    return f"{verdict.kind}: {named}" if named else verdict.kind


def _run_to_json(run: Record) -> dict[str, Any]:
    return {
        "environment": dict(run.environment),
        "reference": run.reference,
        "interrupted": run.interrupted,
    }


def _group_to_json(change: GroupChange) -> dict[str, Any]:
    verdicts = {"old": change.old, "new": change.new}
    return {
        **change.group._asdict(),
        "not_compared": change.apart,
        "verdicts": {run: v and v.to_json() for run, v in verdicts.items()},
        "outcome": change.outcome,
        "strategies": [
            {
                "strategy": row.strategy,
                "old": row.old and {name: getattr(row.old, name) for name in _SHOWN},
                "new": row.new and {name: getattr(row.new, name) for name in _SHOWN},
                "ratio": row.ratio and row.ratio._asdict(),
                **({"figures": dict(row.figures)} if row.figures else {}),
            }
            for row in change.strategies
        ],
    }
