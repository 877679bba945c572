"""What a finished comparison holds, and the file that it is kept in."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.verdicts.answers import Answer, answers, summary
from tdjax.comparison.verdicts.density import Density
from tdjax.comparison.verdicts.entry import EXPLAINED, NARROW, Entry, Group, grouped
from tdjax.comparison.verdicts.intervals import figures
from tdjax.comparison.verdicts.verdict import Verdict
from tdjax.core import typed, whole_file

FORMAT = "tdjax-comparison"
# Every change of what a file holds makes a new version, with a row in the table below.
VERSION = 5
# The fields that each version added, and what they are in files of earlier versions. Some files of
# version 2 have the verdicts' fields of version 3, and some of version 3 have those of version 4.
_ADDED: Mapping[int, Mapping[str, Mapping[str, Any]]] = {
    2: {"entries": {"movements": None}},
    3: {
        "comparison": {"ceilings": {}},
        "verdicts": {"metric": "time", "saving": None},
        "entries": {"control": False},
    },
    4: {"comparison": {"densities": {}}, "entries": {"chose": None}},
    # Ratios became ratios of speeds, and medians: they are computed anew, as all answers are.
    5: {},
}
_SPEEDS = 5
_OLDER = {"tie": "level", "unstable": "unclear"}
# What is written for others to read: it follows from the rest.
_DERIVED = ("format", "version", "summary", "answers")
_UNSAID = "off by more than 1e-3, as rounding explains; its file is too old to say where"


@dataclass(frozen=True)
class Record:
    """What is known of strategies compared on one or more workloads.

    Attributes:
        entries: one a candidate, grouped by workload, target and mode.
        verdicts: one a group.
        reference: the strategy whose answer is right and whose time is 1.00.
        workloads: a line on each workload: what it is, and its shapes.
        environment: versions, device, flags and date.
        interrupted: whether it was stopped before it was finished.
        ceilings: what each target reaches at best, by its name; targets whose figures are not
            known are left out.
        densities: of workloads with a mask, the series that each belongs to and the part of its
            steps that is real.
    """

    entries: tuple[Entry, ...]
    verdicts: tuple[Verdict, ...]
    reference: str
    workloads: Mapping[str, str]
    environment: Mapping[str, str | int | float | bool | None]
    interrupted: bool = False
    ceilings: Mapping[str, Ceilings] = field(default_factory=dict)
    densities: Mapping[str, Density] = field(default_factory=dict)

    @functools.cached_property
    def answers(self) -> tuple[Answer, ...]:
        """What the samples say of each group: vmap or fold, auto or not, and the fastest."""
        return answers(self.entries, self.reference)

    @property
    def summary(self) -> str:
        """One sentence on all of it."""
        return summary(self.answers, self.reference)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as JSON, whole or not at all.

        Args:
            path: the file; its folder is made where it is missing.

        Returns:
            The path.

        Raises:
            OSError: the file cannot be written.
        """
        return whole_file.write(path, self.to_json())

    def to_json(self) -> str:
        """Return the text that `save` writes."""
        names = ("environment", "workloads", "ceilings", "densities", "verdicts", "entries")
        content = {
            "format": FORMAT,
            "version": VERSION,
            "reference": self.reference,
            "interrupted": self.interrupted,
            "summary": self.summary,
            "answers": [answer.to_json() for answer in self.answers],
            **{name: getattr(self, name) for name in names},
        }
        return json.dumps(content, indent=1, allow_nan=False, default=vars) + "\n"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not a saved comparison, or a newer tdjax wrote it.
        """
        text = Path(path).read_bytes()
        try:
            content = typed.parse(text)
        except ValueError as error:
            raise ValueError(f"{path}: not a saved comparison: {error}") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"{path}: not a saved comparison: it does not say {FORMAT!r}")
        version = content.get("version")
        if not isinstance(version, int) or version < 1:
            raise ValueError(f"{path}: not a saved comparison: its version is {version!r}")
        if version > VERSION:
            raise ValueError(
                f"{path}: written by a newer tdjax (format {version}; this one reads up to "
                f"{VERSION}). Upgrade: pip install --upgrade tdjax"
            )
        try:
            found = typed.read(cls, _migrated(content, version))
        except ValueError as error:
            raise ValueError(f"{path}: a damaged comparison: {error}") from None
        if version >= _SPEEDS:
            return found
        return replace(found, entries=_rated(found.entries, found.reference))

    def why(
        self,
        first: Any,
        second: Any,
        *,
        workload: str | None = None,
        target: str | None = None,
        mode: str | None = None,
    ) -> tuple[str, ...]:
        """Say what one strategy's programs do and the other's do not: moved data and loops.

        Args:
            first: a strategy, or its name.
            second: another one.
            workload: only this workload; None: all of them.
            target: only this target.
            mode: only this mode.

        Returns:
            Sentences, for each group the largest difference first. Of several groups, each
            sentence begins with its group.

        Raises:
            ValueError: no group has both strategies.
        """
        from tdjax.comparison.verdicts.why import why

        wanted = {"workload": workload, "target": target, "mode": mode}
        found: dict[Group, tuple[str, ...]] = {}
        for group, entries in grouped(self.entries).items():
            if any(value not in (None, getattr(group, name)) for name, value in wanted.items()):
                continue
            by_name = {entry.strategy: entry for entry in entries}
            pair = [by_name.get(_full_name(strategy)) for strategy in (first, second)]
            if pair[0] is not None and pair[1] is not None:
                found[group] = why(pair[0], pair[1])
        if not found:
            known = ", ".join(dict.fromkeys(entry.strategy for entry in self.entries))
            asked = ", ".join(f"{name}={value!r}" for name, value in wanted.items() if value)
            raise ValueError(
                f"why: no group{f' with {asked}' if asked else ''} has both {str(first)!r} and "
                f"{str(second)!r}; the strategies are {known}."
            )
        if len(found) == 1:
            return next(iter(found.values()))
        return tuple(
            f"{group.workload} {group.mode} on {group.target}: {sentence}"
            for group, sentences in found.items()
            for sentence in sentences
        )


def _migrated(content: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Return a file's fields as this version has them; what does not fit is left as it is."""
    content = {name: value for name, value in content.items() if name not in _DERIVED}
    for later in range(version + 1, VERSION + 1):
        added = _ADDED[later]
        content = {**added.get("comparison", {}), **content}
        for part in ("verdicts", "entries"):
            if isinstance(rows := content.get(part), list):
                more = added.get(part, {})
                content[part] = [{**more, **r} if isinstance(r, dict) else r for r in rows]
    if version < _SPEEDS and isinstance(rows := content.get("verdicts"), list):
        for row in rows:
            if isinstance(row, dict) and isinstance(kind := row.get("kind"), str):
                row["kind"] = _OLDER.get(kind, kind)
    return content


def _rated(entries: Iterable[Entry], reference: str) -> tuple[Entry, ...]:
    """Return entries of an older version with medians and ratios of speeds from their samples."""
    base = {entry.group: entry.samples_s for entry in entries if entry.strategy == reference}
    found = []
    for entry in entries:
        known: dict[str, Any] = dict.fromkeys(("ratio", "ratio_low", "ratio_high"))
        known |= figures(entry.samples_s, base.get(entry.group, ()))
        if entry.error is None and (entry.max_rel_error or 0.0) > EXPLAINED:
            known["error"] = _UNSAID if entry.target == "cpu" else NARROW
        found.append(replace(entry, **known))
    return tuple(found)


def _full_name(strategy: Any) -> str:
    """Return a strategy's name as entries have it: shorthand names stand for objects."""
    from tdjax.strategies import parse

    try:
        return str(parse(strategy))
    except (TypeError, ValueError):
        return str(strategy)
