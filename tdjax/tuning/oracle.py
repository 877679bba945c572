"""Measures every candidate that `auto` could choose, so that its choices can be judged for good."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tdjax import workloads
from tdjax.comparison.measuring.candidate import MeasuredCandidate
from tdjax.comparison.measuring.program import Building
from tdjax.comparison.measuring.rotation import Rotation
from tdjax.comparison.measuring.rounds import Effort, Rounds
from tdjax.comparison.subjects.subject import MODES, Subject, subject
from tdjax.comparison.system.memory import settle_allocator
from tdjax.comparison.system.progress import Progress
from tdjax.comparison.verdicts.intervals import paired_times
from tdjax.devices.attached import cache_bytes
from tdjax.devices.processor import cores
from tdjax.devices.table import FORMAT, VERSION, Row, Table
from tdjax.strategies import Decision, Strategy, parse
from tdjax.strategies.choosing.decide import decide
from tdjax.transform import time_distributed

LEFT_OUT = 3.0
"""Candidates that are predicted to take so many times as long as the best are not measured."""

_EFFORT = Effort(budget_s=4.0)


def decision_on(workload: str, mode: str) -> Decision:
    """Return what `auto` decides for a workload of a table; under `jax.eval_shape` alone."""
    case = workloads.get(workload).build(False)
    wrapped = time_distributed(case.fun, in_axes=case.in_axes, out_axes=case.out_axes)
    return decide(wrapped.bind(case.args, {}, None, None), mode, None, None)


def record(
    names: Sequence[str], table: Table, keep: Callable[[Table], None], progress: Progress
) -> Table:
    """Measure what a table lacks of these workloads, in both modes; keep it after each.

    Raises:
        ValueError: there is no workload of a name.
    """
    known = {(row.workload, row.mode) for row in table.rows}
    wanted = [(name, mode) for name in names for mode in MODES]
    for done, (name, mode) in enumerate(wanted):
        if (name, mode) in known:
            continue
        start = time.perf_counter()
        progress.update(f"{name} {mode}: preparing", done / len(wanted))
        row = _measured(name, mode, lambda text, d=done: progress.update(text, d / len(wanted)))
        table = dataclasses.replace(table, rows=(*table.rows, row))
        keep(table)
        best = min(row.seconds, key=row.seconds.__getitem__)
        took = time.perf_counter() - start
        progress.log(
            f"{name} {mode}: {best} takes {1e3 * row.seconds[best]:.2f} ms, the best of "
            f"{len(row.seconds)}; {took:.1f} s"
        )
    return table


def _measured(name: str, mode: str, tell: Callable[[str], None]) -> Row:
    case = workloads.get(name).build(False)
    made = subject(case.fun, case.args, in_axes=case.in_axes, out_axes=case.out_axes, name=name)
    predicted = decision_on(name, mode).predicted
    least = min(each.cost(mode) for each in predicted)
    among = [each.strategy for each in predicted if each.cost(mode) <= LEFT_OUT * least]
    if mode == "forward":  # There is nothing to recompute.
        among = [each for each in among if not getattr(each, "remat", False)]
    settle_allocator()
    arguments = made.arrays, made.cotangents(parse("vmap"), mode)
    found = _compiled(made, among, mode, arguments, tell)
    tell(f"{name} {mode}: {len(found)} candidates take turns")
    rotation = Rotation(arguments, made.streamed, cache_bytes("cpu"))
    rounds = Rounds(found, _EFFORT, f"{name} {mode}")
    rounds.begin(rotation, lambda text, _: tell(f"{name} {mode}: {text}"))
    times = paired_times({each.name: each.samples for each in found})
    return Row(name, mode, {n: float(f"{s:.4g}") for n, s in sorted(times.items())})


def _compiled(
    made: Subject,
    among: Sequence[Strategy],
    mode: str,
    arguments: tuple[Any, Any],
    tell: Callable[[str], None],
) -> list[MeasuredCandidate]:
    """Return candidates that are compiled, several at a time; without those that fail."""
    found = []
    with ThreadPoolExecutor(cores()) as compiler:
        begun = []
        for strategy in among:
            tell(f"{made.name} {mode}: compiling {strategy}")
            with contextlib.suppress(Exception):
                building = Building(made.function(strategy, mode), arguments, made.steps)
                building.start(compiler)
                begun.append((strategy, building))
        for strategy, building in begun:
            with contextlib.suppress(Exception):
                found.append(MeasuredCandidate(strategy, program=building.finish(read=False)))
    return found


def text(table: Table) -> str:
    """Return the text of a table's file: a line for each row."""
    rows = ",\n  ".join(json.dumps(vars(row)) for row in table.rows)
    head = {"format": FORMAT, "version": VERSION, **vars(table), "rows": []}
    return json.dumps(head, indent=1).replace('"rows": []', f'"rows": [\n  {rows}\n ]') + "\n"
