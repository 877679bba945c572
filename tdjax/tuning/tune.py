"""`tune`: measure what could run, or have it compiled, and keep the results for `auto`."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from tdjax.comparison import numbers
from tdjax.comparison.calibration import calibrate_first
from tdjax.comparison.measuring.call_client import CallClient
from tdjax.comparison.measuring.group import Measurement
from tdjax.comparison.measuring.rounds import Effort, check_effort
from tdjax.comparison.rendering.html import notebook
from tdjax.comparison.session import Mode, modes
from tdjax.comparison.subjects.strategy_list import parse_strategies
from tdjax.comparison.subjects.subject import Subject, subject
from tdjax.comparison.system.progress import Progress, told
from tdjax.comparison.targets.device import AbsentDevice
from tdjax.comparison.verdicts.entry import Entry, Group
from tdjax.comparison.verdicts.intervals import paired_medians
from tdjax.comparison.verdicts.naming import short
from tdjax.comparison.verdicts.standing import speed
from tdjax.core.axes import Axes
from tdjax.core.byte_size import read_budget
from tdjax.core.mask import MaskLike
from tdjax.devices.attached import assume, device_kind
from tdjax.devices.compiled_result import CompiledResult, Result
from tdjax.devices.tuned_result import Tuned, TunedCandidate
from tdjax.flax_guard import StepLike
from tdjax.strategies import (
    Auto,
    Candidate,
    Decision,
    Strategy,
    StrategyLike,
    parse,
    recorded,
    to_data,
)
from tdjax.strategies.choosing import tuned
from tdjax.strategies.choosing.measured import Measured
from tdjax.strategies.override import ignoring_override
from tdjax.tuning import compiled

# Candidates predicted to take so many times as long as the first are not measured.
_PROMISING = 2.5
_FEWEST = 8
# Under a budget: a program's bound on memory is up to so many times what it takes.
_LOOSE = 5.0
_BUDGET_S = 15.0


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What `tune` measured. Printing it gives a table, and so does a notebook.

    Attributes:
        best: the strategy object that `auto` takes from now on: the fastest, or with a target that
            is not here the one of the fewest cycles or bytes; of several that cannot be told apart,
            the one that is predicted to be. Of both modes, that of the smallest sum: `auto` takes
            the best of each, and this where one must do for both.
        level: the strategies that cannot be told from the fastest, that one included.
        entries: what was measured or compiled, one a candidate and mode, as in a `Comparison`.
        paths: where the results were written; empty where the folder cannot be written.
        results: what is kept, one a mode.
    """

    best: Strategy
    level: tuple[Strategy, ...]
    entries: tuple[Entry, ...]
    paths: tuple[Path, ...]
    results: tuple[Result, ...] = dataclasses.field(repr=False)

    def __str__(self) -> str:
        lines = [self._answer()]
        for mode, rows in self._tables().items():
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            lines.append(f"{mode}:")
            for name, *cells in rows:
                columns = [f"{c:>{w}}" for c, w in zip(cells[:-1], widths[1:], strict=False)]
                lines.append("  ".join(["", f"{name:<{widths[0]}}", *columns, cells[-1]]).rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return notebook.page(self._answer(), self._tables())

    def _answer(self) -> str:
        """Return what was found, in a sentence."""
        if isinstance(self.results[0], CompiledResult):
            known = Measured(self.results)
            text = f"{self.best} was {known.words.first} {known.where}."
            if len(self.level) > 1:
                names = numbers.join([str(each) for each in self.level])
                text = (
                    f"{names} were {known.words.level} {known.where}; auto takes {self.best}, "
                    "which is predicted to be the fastest of them."
                )
            return f"{text} {_CHECKED}"
        if len(self.level) == 1:
            return f"{self.best} is fastest."
        names = numbers.join([str(each) for each in self.level])
        return (
            f"{names} cannot be told apart by their speed; auto takes {self.best}, which is "
            "predicted to be the fastest of them."
        )

    def _tables(self) -> dict[str, list[tuple[str, ...]]]:
        """Return the rows of each mode, the first of them the headings."""
        return {
            result.mode: [compiled.HEADINGS, *compiled.rows(result)]
            if isinstance(result, CompiledResult)
            else [_HEADINGS, *_rows(result)]
            for result in self.results
        }


_CHECKED = "Answers were checked on a CPU, which checks the strategies and not the chip's code."
_HEADINGS = ("strategy", "median", "speed / fastest", "95% interval", "memory", "")


def _rows(result: Tuned) -> Iterator[tuple[str, ...]]:
    """Yield what a table says of each candidate, the fastest first."""
    least = min(result.times.values())
    for each in sorted(result.candidates, key=lambda c: (c.status != "ok", c.median_s or 0.0)):
        speeds = ["", ""]
        if each.status == "ok":
            median, low, high = each.bounds_s
            between = numbers.interval(least / high, least / low)
            speeds = [numbers.speed(least / median), "" if low == high else between]
        figures = numbers.seconds(each.median_s), *speeds, numbers.memory(each.temp_bytes)
        yield short(each.strategy), *figures, f"{each.status}: {each.error}" if each.error else ""


def tune(
    fun: StepLike,
    *args: Any,
    in_axes: Axes = 1,
    out_axes: Axes = 1,
    mode: Mode = "forward",
    strategies: Sequence[StrategyLike] | None = None,
    mask: MaskLike = None,
    seq_lengths: MaskLike = None,
    kwargs: dict[str, Any] | None = None,
    memory_budget: int | str | None = None,
    timeout: float = 60.0,
    target: str | None = None,
    calibrate: bool = True,
    progress: Progress | bool | None = None,
) -> Tuning:
    """Measure the strategies that could be fastest, and remember the results.

    Candidates come from the predictions of `auto`. Each is compiled, its outputs and gradients are
    checked against `vmap` (in float32, where dtypes are narrower), and rounds of samples are taken,
    which slow ones leave early. The results are kept in a file, and from then on `auto` takes the
    fastest, in this process and in others, for the same program, sizes, device and versions. Where
    several cannot be told apart by what was measured, it takes the one of them that is predicted to
    be the fastest.

    For a `target` that is not here nothing is measured: every candidate is compiled by that
    device's own compiler, and ranked by its estimate of cycles, or by the bytes that it moves. On
    such a device `auto` takes the first where nothing was measured. Answers are checked on the CPU,
    which checks the strategies and not the code for the device. What is known is kept after each
    candidate: a run that was interrupted goes on where it ended.

    Args:
        fun: a step function, a wrapped one, or a Flax module, as for `compare`.
        *args: its arguments, with their time axes.
        in_axes, out_axes: as for `time_distributed`; a wrapped function brings its own.
        mode: "forward"; "grad", forward and gradient together; or "both", after which `auto`
            takes the best of each.
        strategies: the candidates; None: those that are predicted to be fastest.
        mask, seq_lengths, kwargs: passed on.
        memory_budget: bytes of temporary memory that the compiled program may take, or a text such
            as "64MB"; one that takes more is not run.
        timeout: seconds that a call may take, or the compiling of one program for a target.
        target: "tpu:v5e", "gpu:h100", ...: what to compile for, as for `compare`, "tpu:v5e:2x4"
            for arrays on several devices. None measures on JAX's default device.
        calibrate: measure this machine's speeds first if that was never done, as `tdjax.calibrate`
            does.
        progress: True shows it on standard error; or an object, as for `compare`.

    Returns:
        A `Tuning`.

    Raises:
        ValueError: an unknown mode or strategy; there is nothing to choose from; or nothing fits
            the budget, with the least that can be had.
        ImportError: the target's compiler is not installed.

    >>> import jax.numpy as jnp
    >>> tuning = tune(jnp.tanh, jnp.ones((4, 6, 8)), strategies=("vmap", "fold"))
    >>> [entry.status for entry in tuning.entries]
    ['ok', 'ok']
    """
    given = None if strategies is None else parse_strategies(strategies)
    budget = read_budget(memory_budget)
    made = subject(
        fun,
        args,
        in_axes=in_axes,
        out_axes=out_axes,
        mask=mask,
        seq_lengths=seq_lengths,
        kwargs=kwargs,
    )
    with told(progress) as progress_told:
        if calibrate and target is None:
            calibrate_first(progress_told)
        return tune_subject(made, mode, given, budget, timeout, progress_told, target)


def tune_subject(
    made: Subject,
    mode: str,
    strategies: Sequence[Strategy] | None,
    memory_budget: int | None,
    timeout: float,
    progress: Progress,
    target: str | None = None,
) -> Tuning:
    """Tune a subject that `compare` could run; see `tune`."""
    check_effort(None, timeout)
    options = made, mode, strategies, memory_budget, timeout, progress
    device = None if target is None else compiled.device_of(target)
    with ignoring_override():
        return _measure_all(*options) if device is None else _compile(*options, device)


def _measure_all(
    made: Subject,
    mode: str,
    strategies: Sequence[Strategy] | None,
    memory_budget: int | None,
    timeout: float,
    progress: Progress,
) -> Tuning:
    """Measure the candidates on JAX's default device."""
    chosen_modes = modes(mode)
    decision = _decision(made, mode)
    chosen = strategies or _promising(decision.predicted, mode, memory_budget)
    with CallClient(jax.default_backend()) as client:
        measured = [
            _measure(made, each, chosen, memory_budget, timeout, client, progress)
            for each in chosen_modes
        ]
    for measurement in measured:
        _check_any(measurement, memory_budget)
    results = tuple(_result(decision, made.name, each, chosen) for each in measured)
    entries = tuple(entry for measurement in measured for entry in measurement.entries)
    return _tuning(decision, entries, results, None)


def _compile(
    made: Subject,
    mode: str,
    strategies: Sequence[Strategy] | None,
    memory_budget: int | None,
    timeout: float,
    progress: Progress,
    device: AbsentDevice,
) -> Tuning:
    """Have all candidates compiled for a device that is not here."""
    chosen_modes = modes(mode)
    with assume(device.compiler.platform, device.device_kind or None):
        decision = _decision(made, mode)
        distinct = _distinct(decision.predicted, mode)
        candidates = strategies or [each.strategy for each in distinct]
        found = [
            compiled.compile_candidates(made, each, candidates, decision, device, timeout, progress)
            for each in chosen_modes
        ]
        results = tuple(result for result, _ in found)
        entries = tuple(entry for _, group in found for entry in group)
        return _tuning(decision, entries, results, memory_budget)


def _tuning(
    decision: Decision,
    entries: tuple[Entry, ...],
    results: tuple[Result, ...],
    memory_budget: int | None,
) -> Tuning:
    """Keep what was found, and return it with the strategy that `auto` takes from now on."""
    paths = tuple(path for each in results if (path := tuned.keep(each)) is not None)
    known = Measured(results)
    candidates = known.complete(decision.predicted)
    fitting = [
        each for each in candidates if memory_budget is None or each.most_bytes <= memory_budget
    ]
    ordered, level = known.order(fitting)
    if not level:
        first = next((entry.error for entry in entries if entry.error), None)
        why = "" if first is None else f": {first}"
        if memory_budget is not None and any(map(known.knows, (c.strategy for c in candidates))):
            least = min(
                (each for each in candidates if known.knows(each.strategy)),
                key=lambda each: each.most_bytes,
            )
            why = (
                f": nothing fits {numbers.memory(memory_budget)}; the least is "
                f"{numbers.memory(int(least.most_bytes))}, by {least.strategy}"
            )
        raise ValueError(f"tune: no candidate came to the end in every mode{why}.")
    return Tuning(ordered[0].strategy, tuple(level), entries, paths, results)


def _decision(made: Subject, mode: str) -> Decision:
    """Return what `auto` would choose before anything is measured."""
    auto = Auto(mode="forward" if mode == "forward" else "both")
    with recorded() as decisions:
        jax.eval_shape(functools.partial(made.call, auto), made.arrays)
    if not decisions or not decisions[0].predicted:
        reason = f": {decisions[0].reason}" if decisions else ", for it updates shared state."
        raise ValueError(f"tune: {made.name} can be run in one way only{reason}")
    return decisions[0].in_mode("forward" if mode == "forward" else "grad")


def _distinct(predicted: Sequence[Candidate], mode: str) -> list[Candidate]:
    """Return the candidates that differ in a mode: a forward pass has nothing to rematerialize."""
    strategies = ((each, each.strategy) for each in predicted)
    return [each for each, s in strategies if mode != "forward" or s == s.without_remat()]


def _promising(
    predicted: Sequence[Candidate], mode: str, memory_budget: int | None
) -> list[Strategy]:
    """Return the candidates that are predicted to come near the first.

    Under a budget these are the ones that may fit, the ones that take least, and those that compute
    all rows at once: where weights take most of the memory, the bound is far too high.
    """
    ranked = sorted(_distinct(predicted, mode), key=lambda each: each.cost(mode))
    if memory_budget is not None:
        leanest = sorted(ranked, key=lambda each: each.most_bytes)[:_FEWEST]
        limit = _LOOSE * memory_budget
        ranked = [c for c in ranked if c.most_bytes <= limit or c in leanest or c.strategy.at_once]
    limit = _PROMISING * ranked[0].cost(mode)
    near = [c for i, c in enumerate(ranked) if i < _FEWEST or c.cost(mode) <= limit]
    return [each.strategy for each in near]


def _measure(
    made: Subject,
    mode: str,
    strategies: Sequence[Strategy],
    memory_budget: int | None,
    timeout: float,
    client: CallClient,
    progress: Progress,
) -> Measurement:
    platform = jax.default_backend()
    group = Group(made.name, platform, "measured", mode)
    effort = Effort(budget_s=_BUDGET_S, timeout_s=timeout)
    measurement = Measurement(
        made, group, strategies, parse("vmap"), None, effort, memory_budget=memory_budget
    )

    def tell(text: str, fraction: float) -> None:
        progress.update(f"{made.name} {mode}: {text}", fraction)

    measurement.measure(client, tell)
    if measurement.undecided:
        # A few are left: more rounds of them, later, tell speed from chance.
        measurement.go_on(_BUDGET_S, tell)
    return measurement


def _check_any(measurement: Measurement, memory_budget: int | None) -> None:
    entries = measurement.entries
    if any(entry.status == "ok" for entry in entries):
        return
    name, mode = measurement.group.workload, measurement.group.mode
    sized = [entry for entry in entries if entry.temp_bytes is not None]
    if memory_budget is not None and sized:
        least = min(sized, key=lambda entry: entry.temp_bytes or 0)
        raise ValueError(
            f"memory_budget: nothing fits {numbers.memory(memory_budget)}; the least that {name} "
            f"can do with in mode {mode!r} is {numbers.memory(least.temp_bytes)}, by "
            f"{least.strategy}."
        )
    first = next((entry.error for entry in entries if entry.error), "nothing ran")
    raise ValueError(f"tune: no candidate for {name} ran to the end in mode {mode!r}: {first}")


def _result(
    decision: Decision, title: str, measurement: Measurement, strategies: Sequence[Strategy]
) -> Tuned:
    call, entries = decision.call, measurement.entries
    assert call.traced is not None
    times = paired_medians([entry for entry in entries if entry.status == "ok"])
    fastest = min(times, key=times.__getitem__)
    samples = next(entry.samples_s for entry in entries if entry.strategy == fastest)
    return Tuned(
        program=tuned.program_of(call, call.traced),
        mode=measurement.group.mode,
        title=title,
        sizes=(call.batch, call.time),
        device=device_kind(),
        versions=tuned.versions(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        candidates=tuple(
            TunedCandidate(
                entry.strategy,
                **to_data(strategy),
                status=entry.status,
                error=entry.error,
                **timed(entry, samples, times[fastest]),
                samples_s=entry.samples_s,
                temp_bytes=entry.temp_bytes,
            )
            for entry, strategy in zip(entries, strategies, strict=True)
        ),
    )


def timed(entry: Entry, fastest: Sequence[float], least: float) -> dict[str, Any]:
    """Return an entry's time, and its interval from rounds that it shares with the fastest.

    Args:
        entry: what was measured.
        fastest: the samples of the fastest.
        least: its time.
    """
    if entry.status != "ok":
        return {"median_s": entry.median_s}
    pair = speed(entry.samples_s, fastest)
    value, low, high = pair.ratio
    slow, fast = low or value, high or value
    if not pair.behind:
        slow, fast = min(slow, 1.0), max(fast, 1.0)
    return {"median_s": least / value, "low": value / fast, "high": value / slow}
