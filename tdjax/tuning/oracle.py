"""Measures every candidate that `auto` could choose, so that its choices can be judged for good."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax

from tdjax import workloads
from tdjax._version import __version__
from tdjax.comparison.calibration import calibrate, calibrate_first
from tdjax.comparison.measuring.candidate import MeasuredCandidate
from tdjax.comparison.measuring.program import Building
from tdjax.comparison.measuring.rotation import Rotation
from tdjax.comparison.measuring.rounds import Effort, Rounds
from tdjax.comparison.subjects.subject import MODES, Subject, subject
from tdjax.comparison.system.memory import settle_allocator
from tdjax.comparison.system.progress import Progress
from tdjax.core.kept_file import jax_versions
from tdjax.costs.machine import Machine, assume_machine, machine_elsewhere
from tdjax.devices import calibration
from tdjax.devices.attached import cache_bytes, device_kind
from tdjax.devices.processor import cores
from tdjax.devices.table import FORMAT, VERSION, Row, Table
from tdjax.strategies import Strategy, parse
from tdjax.strategies.choosing.decide import decide
from tdjax.transform import time_distributed

LEFT_OUT = 1.4
"""Candidates that are predicted to take so many times as long as the best are not measured."""

MOST = 12
"""Nor are more than these that are predicted to be fastest; plain programs always are."""

Place = tuple[str, str]
"""A workload and a mode."""

# How long those are measured that took less than so many times as long as the best, at their best:
# most of the time goes to those that may be the best.
_STAGES = (
    (math.inf, Effort(rounds=2)),
    (1.5, Effort(rounds=2)),
    (1.2, Effort(budget_s=1.5)),
)


def begin(progress: Progress) -> Table:
    """Return a table without rows, of this machine, which is calibrated first if it never was.

    Raises:
        ValueError: JAX's default device is not a CPU.
    """
    if jax.default_backend() != "cpu":
        raise ValueError(f"tables are of CPUs; JAX's default device is {jax.default_backend()!r}")
    calibrate_first(progress)
    found = calibration.find(device_kind()) or calibrate(progress)
    versions = {**found.versions, "tdjax": __version__}
    return Table(found.platform, found.kind, found.date, versions, found.speeds, ())


def check_same(table: Table) -> None:
    """Raise ValueError where a table was begun on another machine, or with another JAX."""
    was = table.kind, {name: table.versions.get(name) for name in jax_versions()}
    if was != (device_kind(), jax_versions()):
        raise ValueError(f"it is of {table.kind}, jax {table.versions.get('jax')}: begin another")


def choices(names: Iterable[str], machines: Sequence[Machine]) -> dict[Place, list[str]]:
    """Return what `auto` chooses for each workload and mode on each of these machines, by name.

    Nothing is computed: workloads are built, and their steps traced, without values.
    """
    found: dict[Place, list[str]] = {}

    def look(name: str) -> int:
        case = workloads.get(name).build(False)
        wrapped = time_distributed(case.fun, in_axes=case.in_axes, out_axes=case.out_axes)
        call = wrapped.bind(case.args, {}, None, None)
        for mode in MODES:
            strategies = []
            for machine in machines:
                with assume_machine(machine):
                    strategies.append(decide(call, mode, None, None).strategy)
            found[name, mode] = [str(_as_recorded(each, mode)) for each in strategies]
        return 0

    for name in names:
        jax.eval_shape(functools.partial(look, name))
    return found


def judge(table: Table, machine: Machine | None = None) -> list[Judged]:
    """Return each row with what `auto` chooses, and what that loses.

    Args:
        table: what was measured.
        machine: what it predicts by; None for the speeds that were calibrated there.
    """
    machine = machine or machine_elsewhere(table.platform, table.kind, table.speeds)
    found = choices(dict.fromkeys(row.workload for row in table.rows), [machine])
    judged = []
    for row in table.rows:
        (strategy,) = found[row.workload, row.mode]
        judged.append(Judged(row, strategy, row.regret(strategy)))
    return judged


class Judged(NamedTuple):
    """What was chosen for a row of a table.

    Attributes:
        row: the row.
        strategy: what was chosen.
        regret: its time over that of the best; inf where it was not measured.
    """

    row: Row
    strategy: str
    regret: float


def _as_recorded(strategy: Strategy, mode: str) -> Strategy:
    """Return the strategy of the same program: a forward pass has nothing to recompute."""
    if mode == "forward" and getattr(strategy, "remat", False):
        return dataclasses.replace(strategy, remat=False)  # type: ignore[call-arg]
    return strategy


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
        tell = functools.partial(progress.update, fraction=done / len(wanted))
        row = take_turns(prepared(name, mode, tell), tell)
        table = dataclasses.replace(table, rows=(*table.rows, row))
        keep(table)
        best = min(row.seconds, key=row.seconds.__getitem__)
        took = time.perf_counter() - start
        progress.log(
            f"{name} {mode}: {best} takes {1e3 * row.seconds[best]:.2f} ms, the best of "
            f"{len(row.seconds)}; {took:.1f} s"
        )
    return table


class Prepared(NamedTuple):
    """What is measured for a row of a table.

    Attributes:
        name, mode: the workload and the mode.
        found: the candidates, compiled.
        arguments: what they are called with.
        streamed: of which arrays they get copies in turn; see `Rotation`.
    """

    name: str
    mode: str
    found: list[MeasuredCandidate]
    arguments: tuple[Any, Any]
    streamed: Sequence[int]


def prepared(name: str, mode: str, tell: Callable[[str], None]) -> Prepared:
    """Return the candidates for a workload in a mode, compiled."""
    case = workloads.get(name).build(False)
    made = subject(case.fun, case.args, in_axes=case.in_axes, out_axes=case.out_axes, name=name)
    wrapped = time_distributed(case.fun, in_axes=case.in_axes, out_axes=case.out_axes)
    predicted = decide(wrapped.bind(case.args, {}, None, None), mode, None, None).predicted
    predicted = sorted(predicted, key=lambda each: each.cost(mode))
    near = [c.strategy for c in predicted if c.cost(mode) <= LEFT_OUT * predicted[0].cost(mode)]
    near = [each for each in near if each == _as_recorded(each, mode)][:MOST]
    among = dict.fromkeys([*near, *(c.strategy for c in predicted if c.strategy.at_once)])
    settle_allocator()
    arguments = made.arrays, made.cotangents(parse("vmap"), mode)
    found = _compiled(made, among, mode, arguments, tell)
    return Prepared(name, mode, found, arguments, made.streamed)


def take_turns(row: Prepared, tell: Callable[[str], None]) -> Row:
    """Measure candidates in turn; who is clearly behind is measured no further."""
    said = f"{row.name} {row.mode}"
    tell(f"{said}: {len(row.found)} candidates take turns")
    inputs = Rotation(row.arguments, row.streamed, cache_bytes("cpu"))
    for behind, effort in _STAGES:
        running = [each for each in row.found if _in_sight(each, row.found, behind)]
        Rounds(running, effort, said).begin(inputs, lambda text, _: tell(f"{said}: {text}"))
    times = {each.name: float(f"{_shortest(each):.4g}") for each in row.found}
    taken = {each.name: each.program.temp_bytes for each in row.found if each.program}
    sizes = {name: size for name, size in sorted(taken.items()) if size is not None}
    return Row(row.name, row.mode, dict(sorted(times.items())), sizes)


def _compiled(
    made: Subject,
    among: Iterable[Strategy],
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


def _in_sight(
    candidate: MeasuredCandidate, among: Sequence[MeasuredCandidate], behind: float
) -> bool:
    return behind == math.inf or _shortest(candidate) <= behind * min(map(_shortest, among))


def _shortest(candidate: MeasuredCandidate) -> float:
    """Return the shortest time of a call: what other processes take only adds to it."""
    return min([*candidate.samples, candidate.call_s or math.inf])


def text(table: Table) -> str:
    """Return the text of a table's file: a line for each row."""
    rows = ",\n  ".join(json.dumps(vars(row)) for row in table.rows)
    head = {"format": FORMAT, "version": VERSION, **vars(table), "rows": []}
    return json.dumps(head, indent=1).replace('"rows": []', f'"rows": [\n  {rows}\n ]') + "\n"
