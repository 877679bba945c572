"""Two runs side by side as tables for a terminal, by rich."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.rendering.terminal.console import Column, Fitted, heading, labeled, table
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.answers import QUESTIONS, Answer
from tdjax.comparison.verdicts.changes import (
    AGREES,
    CHANGED,
    OPEN,
    REVERSED,
    Changes,
    GroupChange,
)
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.metric import TIME, advantage, figure, metric_of, shown
from tdjax.comparison.verdicts.metric import heading as better

_COLORS = {AGREES: "green", CHANGED: "yellow", REVERSED: "bold red", OPEN: "dim"}


def renderable(changes: Changes) -> Fitted:
    """Return what `rich.print` shows; it fits itself to the console's width."""
    return Fitted(partial(_parts, changes))


def _parts(changes: Changes, width: int) -> Iterator[Any]:
    from rich.text import Text

    yield Text(changes.summary, style="bold")
    sides = []
    for name, run in (("old", changes.old), ("new", changes.new)):
        known = run.environment
        parts = (known.get("date"), known.get("devices"), known.get("processor"))
        stopped = ["interrupted"] if run.interrupted else []
        said = ", ".join([*(str(part) for part in parts if part), *stopped])
        sides.append((name, Text(f"{said}: {run.summary}")))
    for setting in changes.settings:
        old, new = ("none" if v is None else str(v) for v in (setting.old, setting.new))
        sides.append(("differs", Text(f"{setting.name}: {old} → {new}", style="yellow")))
    yield labeled(sides)
    for change in changes.groups:
        yield Text()
        yield heading(change.group, changes.new.workloads.get(change.group.workload))
        yield labeled(list(_said(change)))
        yield table(list(_columns(change, changes.new.reference)), width)
    for name, groups in (("old", changes.only_old), ("new", changes.only_new)):
        if groups:
            named = ", ".join(f"{g.workload} {g.mode} on {g.target}" for g in groups)
            yield Text(f"\nonly the {name} run has: {named}")


def _said(change: GroupChange) -> Iterator[tuple[str, Any]]:
    """Yield the questions with what became of their answers."""
    from rich.text import Text

    if change.warning is not None:
        yield "careful", Text(change.warning, style="yellow")
    for question, outcome in change.outcomes.items():
        old, new = (_sentence(answer, question) for answer in (change.old, change.new))
        said = new if old == new else f"{old} → {new}"
        yield QUESTIONS[question], Text.assemble((outcome, _COLORS[outcome]), ": ", said)


def _sentence(answer: Answer, question: str) -> str:
    """Return an answer in a few words: the fastest by name, a ratio with its interval."""
    ratio = getattr(answer, f"{question}_over_vmap", None)
    return answer.names() if ratio is None else numbers.speed_interval(*ratio)


def _columns(change: GroupChange, reference: str) -> Iterator[Column]:
    """Yield each run's ratios to its own reference, and what they were taken from."""
    both = list(change.entries.values())
    yield Column("strategy", [naming.short(name) for name in change.entries], names=True)
    metric = metric_of([entry for pair in both for entry in pair if entry is not None])
    base = change.entries.get(reference, (None, None))
    for side, name in enumerate(("old", "new")):
        cells = [_ratio(pair[side], base[side], metric) for pair in both]
        yield Column(f"{name} {better(metric, reference)}", cells)
    for side, name in enumerate(("old", "new")):
        cells = [_figure(pair[side], metric) for pair in both]
        yield Column(f"{name} {'median' if metric == TIME else 'figure'}", cells, spare=2)


def _ratio(entry: Entry | None, against: Entry | None, metric: str) -> str:
    if entry is None:
        return "not run"
    ratio = advantage(entry, against, metric) if entry.status == "ok" else None
    return entry.status if ratio is None else numbers.speed(ratio.value)


def _figure(entry: Entry | None, metric: str) -> str:
    return numbers.UNKNOWN if entry is None else shown(figure(entry, metric), metric)
