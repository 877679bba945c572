"""One candidate of a comparison: one strategy, on one workload, target and mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from tdjax.comparison.hlo import Movement

STATUSES = ("ok", "failed", "timeout")
EXPLAINED = 1e-3
"""An answer that is off by more has a reason in its entry's `error`."""
NARROW = "float32 products are rounded to fewer digits on this device"


class Group(NamedTuple):
    """What entries must share to be ranked against each other."""

    workload: str
    target: str
    evidence: str
    mode: str


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
        samples_s: the raw samples, seconds a call; sample i was taken in round i.
        calls_per_sample: how many calls were timed together for one sample.
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
    evidence: str
    mode: str
    strategy: str
    status: str
    error: str | None = None
    chose: str | None = None
    control: bool = False
    samples_s: tuple[float, ...] = ()
    calls_per_sample: int | None = None
    median_s: float | None = None
    median_low_s: float | None = None
    median_high_s: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    trace_s: float | None = None
    lower_s: float | None = None
    compile_s: float | None = None
    first_run_s: float | None = None
    device_s: float | None = None
    flops: float | None = None
    bytes_accessed: float | None = None
    temp_bytes: int | None = None
    peak_bytes: int | None = None
    comm_bytes: int | None = None
    estimated_cycles: int | None = None
    same_as: str | None = None
    hlo: Mapping[str, int] | None = None
    program: str | None = None
    movements: tuple[Movement, ...] | None = None
    max_rel_error: float | None = None

    @property
    def group(self) -> Group:
        """The entries that this one may be ranked against."""
        return Group(self.workload, self.target, self.evidence, self.mode)

    @property
    def measured(self) -> bool:
        """Whether it ran to the end: its samples may be ranked."""
        return self.status == "ok" and bool(self.samples_s)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        values = asdict(self)
        movements = None if self.movements is None else list(values["movements"])
        return {**values, "samples_s": list(self.samples_s), "movements": movements}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Entry:
        """Return the entry that `to_json` wrote.

        Raises:
            ValueError: a field is missing, unknown or has an unknown status.
        """
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            odd = ", ".join(sorted(known.symmetric_difference(values)))
            raise ValueError(f"an entry whose fields do not fit: {odd}")
        if values["status"] not in STATUSES:
            raise ValueError(f"an entry with the unknown status {values['status']!r}")
        movements = values["movements"]
        if movements is not None:
            movements = tuple(Movement.from_json(movement) for movement in movements)
        samples = tuple(values["samples_s"])
        return cls(**{**values, "samples_s": samples, "movements": movements})


def grouped(entries: Iterable[Entry]) -> dict[Group, list[Entry]]:
    """Return the entries by group, both in the order in which they came."""
    groups: dict[Group, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    return groups
