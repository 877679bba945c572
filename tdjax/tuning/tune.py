"""`tune`: measure what could run, and keep the results, where `auto` looks first."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from tdjax.comparison.measuring.call_client import CallClient
from tdjax.comparison.measuring.group import Measurement
from tdjax.comparison.measuring.rounds import Effort, check_effort
from tdjax.comparison.numbers import memory, seconds
from tdjax.comparison.session import Mode, modes
from tdjax.comparison.subjects.strategy_list import parse_strategies
from tdjax.comparison.subjects.subject import Subject, subject
from tdjax.comparison.system.progress import Progress, told
from tdjax.comparison.verdicts.entry import Entry, Group, grouped
from tdjax.comparison.verdicts.intervals import paired_medians
from tdjax.comparison.verdicts.naming import short
from tdjax.core.axes import Axes
from tdjax.core.byte_size import read_budget
from tdjax.core.mask import MaskLike
from tdjax.devices.attached import device_kind
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

# Candidates predicted to take so many times as long as the first are not measured.
_PROMISING = 2.5
_FEWEST = 8
# Under a budget: a program's bound on memory is up to so many times what it takes.
_LOOSE = 5.0
_BUDGET_S = 15.0


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What `tune` measured. Printing it gives a table.

    Attributes:
        best: the strategy object that was fastest.
        entries: what was measured, one a candidate and mode, as in a `Comparison`.
        paths: where the results were written; empty where the folder cannot be written.
        results: what is kept, one a mode.
    """

    best: Strategy
    entries: tuple[Entry, ...]
    paths: tuple[Path, ...]
    results: tuple[tuned.Tuned, ...] = dataclasses.field(default=(), repr=False)

    def __str__(self) -> str:
        lines = [f"{self.best} is fastest."]
        for mode in dict.fromkeys(entry.mode for entry in self.entries):
            entries = [entry for entry in self.entries if entry.mode == mode]
            entries.sort(key=lambda e: (e.status != "ok", e.median_s or 0.0))
            width = max(len(short(entry.strategy)) for entry in entries)
            lines.append(f"{mode}:")
            for entry in entries:
                what = f"{seconds(entry.median_s):>8}  {memory(entry.temp_bytes):>8}"
                note = "" if entry.status == "ok" else f"  {entry.status}: {entry.error}"
                lines.append(f"  {short(entry.strategy):<{width}}  {what}{note}")
        return "\n".join(lines)


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
    progress: Progress | bool | None = None,
) -> Tuning:
    """Measure the strategies that could be fastest, and remember the results.

    Candidates come from the predictions of `auto`. Each is compiled, its outputs and gradients are
    checked against `vmap` (in float32, where dtypes are narrower), and rounds of samples are taken,
    which slow ones leave early. The results are kept in a file, and from then on `auto` takes the
    fastest, in this process and in others, for the same program, sizes, device and versions.

    Args:
        fun: a step function, a wrapped one, or a Flax module, as for `compare`.
        *args: its arguments, with their time axes.
        in_axes, out_axes: as for `time_distributed`; a wrapped function brings its own.
        mode: "forward"; "grad", forward and gradient together; or "both", which picks the smallest
            sum of the two.
        strategies: the candidates; None: those that are predicted to be fastest.
        mask, seq_lengths, kwargs: passed on.
        memory_budget: bytes of temporary memory that the compiled program may take, or a text such
            as "64MB"; one that takes more is not run.
        timeout: seconds that a call may take.
        progress: True shows it on standard error; or an object, as for `compare`.

    Returns:
        A `Tuning`.

    Raises:
        ValueError: an unknown mode or strategy; there is nothing to choose from; or nothing fits
            the budget, with the least that can be had.

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
        return tune_subject(made, mode, given, budget, timeout, progress_told)


def tune_subject(
    made: Subject,
    mode: str,
    strategies: Sequence[Strategy] | None,
    memory_budget: int | None,
    timeout: float,
    progress: Progress,
) -> Tuning:
    """Tune a subject that `compare` could run; see `tune`."""
    chosen_modes = modes(mode)
    check_effort(None, timeout)
    decision = _decision(made, mode)
    chosen = strategies or _promising(decision.predicted, mode, memory_budget)
    with CallClient(jax.default_backend()) as client:
        measured = [
            _measure(made, each, chosen, memory_budget, timeout, client, progress)
            for each in chosen_modes
        ]
    for measurement in measured:
        _check_any(measurement, memory_budget)
    results = tuple(_result(decision, each, chosen) for each in measured)
    paths = tuple(path for each in results if (path := tuned.keep(each)) is not None)
    entries = tuple(entry for measurement in measured for entry in measurement.entries)
    return Tuning(_best(entries, chosen), entries, paths, results)


def _decision(made: Subject, mode: str) -> Decision:
    """Return what `auto` would choose before anything is measured."""
    auto = Auto(mode="forward" if mode == "forward" else "both")
    with recorded() as decisions:
        jax.eval_shape(functools.partial(made.call, auto), made.arrays)
    if not decisions or not decisions[0].predicted:
        reason = f": {decisions[0].reason}" if decisions else ", for it updates shared state."
        raise ValueError(f"tune: {made.name} can be run in one way only{reason}")
    return decisions[0]


def _promising(
    predicted: Sequence[Candidate], mode: str, memory_budget: int | None
) -> list[Strategy]:
    """Return the candidates that are predicted to come near the first.

    Under a budget these are the ones that may fit, the ones that take least, and those that compute
    all rows at once: where weights take most of the memory, the bound is far too high.
    """
    # A forward pass has nothing to rematerialize.
    remat = mode != "forward"
    ranked = [c for c in predicted if remat or not getattr(c.strategy, "remat", False)]
    ranked.sort(key=lambda each: each.cost(mode))
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

    measurement.measure(client, tell, peak_memory=False)
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
            f"memory_budget: nothing fits {memory(memory_budget)}; the least that {name} can do "
            f"with in mode {mode!r} is {memory(least.temp_bytes)}, by {least.strategy}."
        )
    first = next((entry.error for entry in entries if entry.error), "nothing ran")
    raise ValueError(f"tune: no candidate for {name} ran to the end in mode {mode!r}: {first}")


def _result(
    decision: Decision, measurement: Measurement, strategies: Sequence[Strategy]
) -> tuned.Tuned:
    call, times = decision.call, paired_medians(measurement.entries)
    assert call.traced is not None
    return tuned.Tuned(
        program=tuned.program_of(call, call.traced),
        mode=measurement.group.mode,
        title=call.title,
        sizes=(call.batch, call.time),
        device=device_kind(),
        versions=tuned.versions(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        candidates=[
            {
                "strategy": entry.strategy,
                **to_data(strategy),
                "status": entry.status,
                "error": entry.error,
                "median_s": times.get(entry.strategy),
                "samples_s": list(entry.samples_s),
                "temp_bytes": entry.temp_bytes,
            }
            for entry, strategy in zip(measurement.entries, strategies, strict=True)
        ],
    )


def _best(entries: Sequence[Entry], strategies: Sequence[Strategy]) -> Strategy:
    """Return the strategy with the smallest sum of times over the modes."""
    times = [paired_medians(rows) for rows in grouped(entries).values()]
    failed = {entry.strategy for entry in entries if entry.status != "ok"}
    ran = [strategy for strategy in strategies if str(strategy) not in failed]
    if not ran:
        raise ValueError("tune: no candidate ran to the end in both modes.")
    return min(ran, key=lambda strategy: sum(each[str(strategy)] for each in times))
