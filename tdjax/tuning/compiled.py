"""`tune` for a device that is not here: every candidate is compiled for it, by its own compiler.

Nothing runs there. Answers are checked on the CPU, which checks the strategies, and not the code
that the compiler makes. What is known is kept after every candidate, so that a run that was
interrupted goes on where it ended.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from tdjax._version import __version__
from tdjax.comparison import numbers
from tdjax.comparison.compiling.group import CompiledCandidate, CompiledGroup, Lowered, lower
from tdjax.comparison.compiling.queue import compile_groups
from tdjax.comparison.measuring.call_client import CallClient
from tdjax.comparison.measuring.group import Measurement
from tdjax.comparison.measuring.rounds import Effort
from tdjax.comparison.subjects.subject import Subject
from tdjax.comparison.system.progress import Progress
from tdjax.comparison.targets.device import AbsentDevice
from tdjax.comparison.targets.target import resolve
from tdjax.comparison.verdicts.entry import Entry, Group
from tdjax.comparison.verdicts.metric import BYTES, CYCLES, shown
from tdjax.comparison.verdicts.naming import short
from tdjax.core.arrays import on_several_devices
from tdjax.devices.compiled_result import CompiledResult, RankedCandidate
from tdjax.strategies import Decision, Strategy, parse, to_data
from tdjax.strategies.choosing import tuned

# Parts of a group's work, as progress shows it.
_CHECKED, _LOWERED = 0.4, 0.5
HEADINGS = ("strategy", "cycles", "bytes", "least / it", "memory", "off by", "")


def device_of(target: str) -> AbsentDevice | None:
    """Return the device of a target that is not here; None for the one that JAX runs on.

    Raises:
        ValueError: there is no such target, or JAX does not run on it by default.
        ImportError: its compiler is not installed.
    """
    (found,) = resolve(target)
    if found.compiles_for is None and found.name != jax.default_backend():
        raise ValueError(
            f"target: {target!r} is attached, and JAX runs on {jax.default_backend()!r}; set "
            f"JAX_PLATFORMS={target} to measure there."
        )
    return found.compiles_for


def compile_candidates(
    made: Subject,
    mode: str,
    strategies: Sequence[Strategy],
    decision: Decision,
    device: AbsentDevice,
    timeout: float,
    progress: Progress,
) -> tuple[CompiledResult, list[Entry]]:
    """Return what a device's compiler makes of every strategy; `assume` the device around it.

    Args:
        made: what would run.
        mode: "forward" or "grad".
        strategies: the candidates.
        decision: what `auto` would choose.
        device: what it is compiled for.
        timeout: seconds that one program may take, to be compiled, and to be run on the CPU.
        progress: who is told.
    """
    group = Group(made.name, device.name, "compiled", mode)
    result = _nothing_yet(decision, group, device)
    known = {each.strategy: each for each in _finished(result)}
    missing = [each for each in strategies if str(each) not in known]
    where = f"{made.name} {mode} on {device.name}"
    if len(missing) < len(strategies):
        progress.log(f"{where}: {len(strategies) - len(missing)} candidates from before")

    def tell(text: str, fraction: float) -> None:
        progress.update(f"{where}: {text}", fraction)

    checks = _check_on_cpu(made, mode, missing, timeout, tell) if missing else {}
    lowered = lower(
        made, mode, missing, parse("vmap"), device, lambda t, f: tell(t, _CHECKED + 0.1 * f)
    )
    lowered = [_unless_wrong(each, checks[str(each.strategy)]) for each in lowered]
    compiled = CompiledGroup(group, device, lowered, parse("vmap"), made.steps)
    done = 0

    def entries() -> list[Entry]:
        new = {each.strategy: _checked(each, checks[each.strategy]) for each in compiled.entries}
        before = {name: _from_before(each, group) for name, each in known.items()}
        return [{**before, **new}[str(each)] for each in strategies]

    def result_now() -> CompiledResult:
        waiting = {str(c.lowered.strategy) for c in compiled.candidates if c.waiting}
        ranked = [
            _ranked(entry, strategy)
            for entry, strategy in zip(entries(), strategies, strict=True)
            if entry.strategy not in waiting
        ]
        others = [each for name, each in known.items() if name not in set(map(str, strategies))]
        return dataclasses.replace(result, candidates=(*ranked, *others))

    def progressed(_: CompiledGroup, candidate: CompiledCandidate, final: bool) -> None:
        nonlocal done
        if not final:
            return
        done += 1
        tuned.keep(result_now())
        facts, name = candidate.facts, short(str(candidate.lowered.strategy))
        said = candidate.error or shown(facts.bytes_accessed, BYTES)
        if candidate.status == "ok" and facts.estimated_cycles is not None:
            said = shown(facts.estimated_cycles, CYCLES)
        progress.log(f"{where} [{done}/{len(missing)}] {name}: {said}")
        tell(f"compiled {done} of {len(missing)}", _LOWERED + (1 - _LOWERED) * done / len(missing))

    compile_groups([compiled], timeout, None, progressed)
    return result_now(), entries()


def rows(result: CompiledResult) -> Iterator[tuple[str, ...]]:
    """Yield what a table says of each candidate, the one with the least cycles or bytes first."""
    bounds = result.bounds(result.metric)
    least = min((figure for figure, *_ in bounds.values()), default=0.0)
    figures = {name: figure for name, (figure, *_) in bounds.items()}
    for each in sorted(result.candidates, key=lambda c: figures.get(c.strategy, float("inf"))):
        figure = figures.get(each.strategy)
        off = "" if each.max_rel_error is None else f"{each.max_rel_error:.0e}"
        why = each.error or ""
        yield (
            short(each.strategy),
            numbers.count(each.estimated_cycles),
            numbers.memory(each.bytes_accessed),
            "" if not figure else numbers.hundredths(least / figure),
            numbers.memory(each.temp_bytes),
            off,
            why if each.status == "ok" else f"{each.status}: {why}",
        )


def _nothing_yet(decision: Decision, group: Group, device: AbsentDevice) -> CompiledResult:
    call, compiler = decision.call, device.compiler
    assert call.traced is not None
    return CompiledResult(
        program=tuned.program_of(call, call.traced),
        mode=group.mode,
        title=group.workload,
        sizes=(call.batch, call.time),
        device=device.device_kind,
        target=device.name,
        topology=" ".join(
            str(device.topology[name])
            for name in ("topology_name", "topology")
            if name in device.topology
        ),
        compiler=compiler.title,
        versions={
            **tuned.installed(("jax", "jaxlib", *compiler.distributions)),
            "tdjax": __version__,
        },
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        candidates=(),
    )


def _finished(result: CompiledResult) -> Iterator[RankedCandidate]:
    """Yield what an earlier run with the same versions knows, but for what was late."""
    before = tuned.earlier(result)
    for each in () if before is None else before.candidates:
        if each.status != "timeout":
            yield each


@dataclasses.dataclass(frozen=True)
class _Check:
    """What a strategy's answer on the CPU says of it.

    Attributes:
        off_by: its largest difference from the right one; None where that is not known.
        wrong: in what it is wrong, if it is.
        note: why it was not checked.
    """

    off_by: float | None = None
    wrong: str | None = None
    note: str | None = None


def _check_on_cpu(
    made: Subject, mode: str, strategies: Sequence[Strategy], timeout: float, tell: Any
) -> dict[str, _Check]:
    """Return what is known of each strategy's answer, by its name."""
    device = None if on_several_devices(made.arrays) else jax.devices("cpu")[0]
    group = Group(made.name, "cpu", "measured", mode)
    measurement = Measurement(
        made, group, strategies, parse("vmap"), device, Effort(timeout_s=timeout)
    )
    with CallClient("cpu") as client:
        measurement.check(
            client, lambda text, part: tell(f"on the CPU: {text}", _CHECKED * part), patient=True
        )
    checks = {}
    for candidate in measurement.candidates:
        source = candidate.twin or candidate
        if source.disagrees:
            check = _Check(source.max_rel_error, source.error)
        elif source.status == "ok":
            check = _Check(source.max_rel_error)
        else:
            check = _Check(note=f"its answer was not checked on a CPU: {source.error}")
        checks[candidate.name] = check
    return checks


def _unless_wrong(lowered: Lowered, check: _Check) -> Lowered:
    if check.wrong is None or lowered.error is not None:
        return lowered
    return Lowered(lowered.strategy, error=f"on a CPU, it {check.wrong}")


def _checked(entry: Entry, check: _Check) -> Entry:
    note = entry.error or (check.note if entry.status == "ok" else None)
    return dataclasses.replace(entry, error=note, max_rel_error=check.off_by)


_KEPT = ("status", "error", "estimated_cycles", "bytes_accessed", "temp_bytes", "max_rel_error")


def _ranked(entry: Entry, strategy: Strategy) -> RankedCandidate:
    kept = {name: getattr(entry, name) for name in _KEPT}
    return RankedCandidate(entry.strategy, **to_data(strategy), **kept)


def _from_before(candidate: RankedCandidate, group: Group) -> Entry:
    kept = {name: getattr(candidate, name) for name in _KEPT}
    return Entry(*group, strategy=candidate.strategy, **kept)
