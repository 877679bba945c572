"""Fits the speeds that costs are predicted from to what was measured.

The measurements are those of `tdjax tune`, or of `tdjax compare --strategies every`: what `auto`
chooses from, on the suite. A search by random steps, the same at every run, looks for the speeds
under which the choice loses least against the best that was measured. How near predictions come to
times counts a little, and so does how far the speeds have moved: they should stay plausible.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from tdjax import workloads
from tdjax.comparison.verdicts.entry import Entry, grouped
from tdjax.comparison.verdicts.intervals import paired_medians
from tdjax.core.call import trace
from tdjax.costs.machine import Machine
from tdjax.costs.predict import forward_s, gradient_s
from tdjax.costs.reading import work_of
from tdjax.costs.work import Work
from tdjax.devices import calibration
from tdjax.devices.shipped import SPEEDS, text_of
from tdjax.devices.tuned_result import Tuned
from tdjax.strategies import Fold, Strategy, parse
from tdjax.strategies.choosing.ranking import ranked
from tdjax.transform import time_distributed

STEPS = 3000
_STEP = 0.35
_CHANGED = 0.4
_ERROR_COUNTS = 0.25
_MOVED_COUNTS = 0.01
_NEAR = 1.5
_NEEDED = ("date", "devices", "processor", "cores", "jax", "jaxlib", "tdjax")
_MEMORIES = ("near_bytes_s", "far_bytes_s", "memory_bytes_s")


@dataclasses.dataclass(frozen=True)
class MeasuredWorkload:
    """A workload on which every strategy was measured.

    Attributes:
        name: the workload's.
        batch, time: its sizes.
        work: what a row costs.
        seconds: of each strategy, by mode.
    """

    name: str
    batch: int
    time: int
    work: Work
    seconds: dict[str, dict[Strategy, float]]

    @property
    def in_all(self) -> list[Strategy]:
        """The strategies that were measured in every mode, a whole fold first."""
        first, *others = self.seconds.values()
        found = [s for s in first if all(s in other for other in others)]
        return sorted(found, key=lambda strategy: strategy != Fold())


@dataclasses.dataclass(frozen=True)
class Fit:
    """Speeds, and how good they are.

    Attributes:
        machine: the speeds.
        regret: the time of the choices over that of the best that was measured, such as 1.1; the
            geometric mean over workloads and modes.
        error: the mean of |log(predicted / measured)| of strategies near the best.
        moved: the mean of |log(speed / where the search began)|.
        chosen: the choice on each workload, in each mode.
    """

    machine: Machine
    regret: float
    error: float
    moved: float
    chosen: dict[tuple[str, str], Strategy]

    @property
    def loss(self) -> float:
        """What the search minimizes."""
        return math.log(self.regret) + _ERROR_COUNTS * self.error + _MOVED_COUNTS * self.moved


def measured(entries: Iterable[Entry]) -> list[MeasuredWorkload]:
    """Return what was measured on the suite.

    Raises:
        ValueError: a whole fold was measured on no workload of the suite.
    """
    found: dict[str, dict[str, dict[Strategy, float]]] = {}
    for group, rows in grouped(entries).items():
        if group.evidence == "measured" and group.workload in workloads.names():
            found.setdefault(group.workload, {})[group.mode] = dict(_seconds(rows))
    kept = {
        n: by_mode for n, by_mode in found.items() if all(Fold() in s for s in by_mode.values())
    }
    if not kept:
        raise ValueError("no workload of the suite was measured with a whole fold among others")
    return [_measured(name, by_mode) for name, by_mode in kept.items()]


def fit(workloads_measured: Sequence[MeasuredWorkload], start: Machine, steps: int = STEPS) -> Fit:
    """Return the best speeds that the search finds from `start` on."""
    steps_taken = random.Random(0)
    best = _judge(start, workloads_measured, start)
    for _ in range(steps):
        found = _judge(_another(best.machine, steps_taken), workloads_measured, start)
        if found.loss < best.loss:
            best = found
    return best


def _another(machine: Machine, steps: random.Random) -> Machine:
    factors = {
        name: math.exp(steps.gauss(0, _STEP)) if steps.random() < _CHANGED else 1.0
        for name in SPEEDS
    }
    new: dict[str, Any] = {name: speed * factors[name] for name, speed in machine.speeds.items()}
    # A nearer cache is not slower.
    speeds = sorted((new[name] for name in SPEEDS[3:6]), reverse=True)
    new.update(zip(_MEMORIES, speeds, strict=True))
    # Nor is one core faster than all of them, or XLA's gradient of a convolution than ours. On an
    # accelerator there are no cores to leave idle, and convolutions are left to XLA.
    on_cpu = machine.platform == "cpu"
    new["narrow_conv"] = max(1.0, new["narrow_conv"]) if on_cpu else 1.0
    own = min(new["back_conv"], new["back_conv_2d"])
    new["plain_conv"] = max(own, new["plain_conv"]) if on_cpu else 1.0
    return dataclasses.replace(machine, **new)


def _judge(machine: Machine, workloads_measured: Sequence[MeasuredWorkload], start: Machine) -> Fit:
    regrets, errors, chosen = [], [], {}
    for each in workloads_measured:
        for mode, seconds in each.seconds.items():
            order = ranked(each.in_all, each.work, each.batch, each.time, machine, mode)
            choice = chosen[each.name, mode] = order[0].strategy
            least = min(seconds.values())
            regrets.append(math.log(seconds[choice] / least))
            predict = forward_s if mode == "forward" else gradient_s
            for strategy, taken in seconds.items():
                blocks = strategy.blocks(each.batch, each.time)
                if blocks is not None and taken < _NEAR * least:
                    errors.append(abs(math.log(predict(blocks, each.work, machine) / taken)))
    began = {name: speed for name, speed in start.speeds.items() if math.isfinite(speed)}
    moved = fmean(abs(math.log(machine.speeds[name] / speed)) for name, speed in began.items())
    return Fit(machine, math.exp(fmean(regrets)), fmean(errors), moved, chosen)


def _measured(name: str, seconds: dict[str, dict[Strategy, float]]) -> MeasuredWorkload:
    case = workloads.get(name).build(False)
    wrapped = time_distributed(case.fun, in_axes=case.in_axes, out_axes=case.out_axes)
    call = wrapped.bind(case.args, {}, None, None)
    work = work_of(trace(call, call.batch).jaxpr, call.batch, call.has_rows())
    return MeasuredWorkload(name, call.batch, call.time, work, seconds)


def _seconds(entries: Sequence[Entry]) -> Iterator[tuple[Strategy, float]]:
    """Yield strategies with their times."""
    known = [entry for entry in entries if entry.measured and entry.strategy != "auto"]
    for name, seconds in paired_medians(known).items():
        yield parse(name), seconds


def device_file(
    found: Fit, environment: Mapping[str, Any], platform: str, results: Sequence[Tuned] = ()
) -> str:
    """Return the text of a file for `tdjax/devices/`, from which `auto` knows a device.

    Args:
        found: its speeds.
        environment: of what they were fitted to, as a `Comparison` has it.
        platform: "cpu", "gpu" or "tpu".
        results: what tuning measured on it.

    Raises:
        ValueError: the environment does not say where that was.
    """
    lacking = [name for name in _NEEDED if not environment.get(name)]
    if lacking:
        raise ValueError(f"the comparison does not say its {', '.join(lacking)}")
    if platform == "cpu":
        parts = environment["processor"], f"{environment['cores']} cores", environment.get("caches")
        kind = ", ".join(["cpu", *(str(part) for part in parts if part)])
    else:
        devices = str(environment["devices"])
        kind = devices.partition("(")[2].rstrip(")") or devices
    date, versions = str(environment["date"])[:10], {n: str(environment[n]) for n in _NEEDED[-3:]}
    speeds = found.machine.speeds
    own = calibration.find(kind)
    probed = own.probed if own and own.versions["jax"] == versions["jax"] else None
    return text_of(platform, kind, date, speeds, versions, found.regret, results, probed)
