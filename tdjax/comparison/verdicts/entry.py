"""One candidate of a comparison: one strategy, on one workload, target and mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from tdjax.comparison.hlo import Movement
from tdjax.core.typed import Amount, Count, Positive, Size, one_of

Evidence = Annotated[str, one_of("measured", "compiled")]
Mode = Annotated[str, one_of("forward", "grad")]
EXPLAINED = 1e-3
"""An answer that is off by more has a reason in its entry's `error`."""
NARROW = "float32 products are rounded to fewer digits on this device"


class Group(NamedTuple):
    """What entries must share to be ranked against each other."""

    workload: str
    target: str
    evidence: Evidence
    mode: Mode


@dataclass(frozen=True)
class Entry:
    """What is known of one candidate. A number that is not known is None, never a guess.

    Attributes:
        workload: the name of what was run.
        target: the device: "cpu", "gpu" or "tpu"; "tpu:v5e", "gpu:h100", ... if it is not here.
        evidence: "measured" on an attached device, or "compiled" for one that is not here.
        mode: "forward", or "grad": forward and gradient together.
        strategy: the strategy's name, as `str(strategy)` gives it.
        chose: the strategy that `auto` took, where that is known.
        control: whether it is the reference measured once more, as "vmap (again)": its ratio
            shows how far the samples can be trusted, and it is not ranked.
        status: "ok", "failed" or "timeout" (cut, because it is far slower than the leader).
        error: why the status is not "ok", or what is missing although it is: where a compiler was
            not waited for, the program is optimized and no code was generated; where the answer is
            off by more than 1e-3, why.
        samples_s: the raw samples, seconds a call; sample i was taken in round i. Each is the
            shortest of up to three turns, as many for all of a group: what disturbs a call only
            makes it longer.
        calls_per_sample: how many calls were timed together in a turn.
        median_s: the median of the samples, with its 95% interval `median_low_s` to
            `median_high_s`.
        ratio: how many times as fast as the reference: the median of the ratios of each round,
            with its 95% interval `ratio_low` to `ratio_high`. More than 1 is faster.
        trace_s: seconds to trace the function to a jaxpr.
        lower_s: seconds to lower the jaxpr to StableHLO.
        compile_s: seconds in the device's compiler.
        first_run_s: seconds of the first call of the compiled program.
        device_s: seconds on the device alone, where a profiler tells them apart.
        flops: floating point operations of the optimized program, loops as often as they run.
        bytes_accessed: bytes that its operations read and write, counted likewise.
        temp_bytes: temporary memory that the program allocates.
        peak_bytes: peak memory of a process that runs only this candidate: its arguments, and
            what its first call adds to them.
        comm_bytes: bytes that collectives move.
        estimated_cycles: the compiler's own cycle estimate, summed; TPUs have one. It orders
            programs but is not a time: it leaves out the clock rate, copies that run beside the
            computation, and collectives. It and `temp_bytes` are not known where no code was
            generated.
        same_as: the strategy before this one that compiled to the same program, whose
            samples this entry shares.
        hlo: counts of `transpose`, `copy`, `gather`, `while` and `collectives` in the
            optimized program.
        program: hash of the optimized program, names normalized.
        movements: what moves data in the optimized program, and its loops, by the place in
            the user's code that it comes from.
        max_rel_error: largest difference from the reference's answer, relative to the
            largest magnitude in that array.
    """

    workload: str
    target: str
    evidence: Evidence
    mode: Mode
    strategy: str
    status: Annotated[str, one_of("ok", "failed", "timeout")]
    error: str | None = None
    chose: str | None = None
    control: bool = False
    samples_s: tuple[Positive, ...] = ()
    calls_per_sample: Size | None = None
    median_s: Positive | None = None
    median_low_s: Positive | None = None
    median_high_s: Positive | None = None
    ratio: Positive | None = None
    ratio_low: Positive | None = None
    ratio_high: Positive | None = None
    trace_s: Amount | None = None
    lower_s: Amount | None = None
    compile_s: Amount | None = None
    first_run_s: Amount | None = None
    device_s: Amount | None = None
    flops: Amount | None = None
    bytes_accessed: Amount | None = None
    temp_bytes: Count | None = None
    peak_bytes: Count | None = None
    comm_bytes: Count | None = None
    estimated_cycles: Count | None = None
    same_as: str | None = None
    hlo: Mapping[str, int] | None = None
    program: str | None = None
    movements: tuple[Movement, ...] | None = None
    max_rel_error: Amount | None = None

    def __post_init__(self) -> None:
        check_bounds("median", self.median_low_s, self.median_high_s)
        check_bounds("ratio", self.ratio_low, self.ratio_high)

    @property
    def group(self) -> Group:
        """The entries that this one may be ranked against."""
        return Group(self.workload, self.target, self.evidence, self.mode)

    @property
    def measured(self) -> bool:
        """Whether it ran to the end: its samples may be ranked."""
        return self.status == "ok" and bool(self.samples_s)


def check_bounds(name: str, low: float | None, high: float | None) -> None:
    """Raise ValueError unless both ends of an interval are known, in their order, or neither."""
    if (low is None) != (high is None) or (low is not None and high is not None and low > high):
        raise ValueError(f"the interval of its {name} goes from {low} to {high}")


def grouped(entries: Iterable[Entry]) -> dict[Group, list[Entry]]:
    """Return the entries by group, both in the order in which they came."""
    groups: dict[Group, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    return groups
