"""The figure that a group is ranked by: time where it was measured, else what the compiler says."""

from __future__ import annotations

from collections.abc import Sequence

from tdjax.comparison import numbers
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.intervals import Interval
from tdjax.devices.compiled_result import BYTES, CYCLES

TIME = "time"


def metric_of(entries: Sequence[Entry]) -> str:
    """Return what the entries of one group are ranked by.

    Estimates of cycles rank a group if all its programs have one; otherwise bytes do.
    """
    if entries[0].evidence == "measured":
        return TIME
    compiled = [entry.estimated_cycles for entry in entries if entry.status == "ok"]
    return CYCLES if compiled and None not in compiled else BYTES


def figure(entry: Entry, metric: str) -> float | None:
    """Return an entry's figure, None where it is not known."""
    value: float | None = entry.median_s if metric == TIME else getattr(entry, metric)
    return value


def shown(value: float | None, metric: str) -> str:
    """Return a figure with its unit: "1.20 ms", "596 k cycles", "156 MB"."""
    if value is None:
        return numbers.UNKNOWN
    if metric == TIME:
        return numbers.seconds(value)
    return f"{numbers.count(value)} cycles" if metric == CYCLES else numbers.memory(int(value))


def advantage(entry: Entry, against: Entry | None, metric: str) -> Interval | None:
    """Return how many times as good an entry is as another: faster, or with less of the metric.

    Of times, it is the median of paired ratios, which the entry holds.
    """
    if metric == TIME and entry.ratio is not None:
        return Interval(entry.ratio, entry.ratio_low, entry.ratio_high)
    if entry.status != "ok" and metric != TIME:
        return None
    own, base = figure(entry, metric), None if against is None else figure(against, metric)
    return Interval(base / own, None, None) if own and base else None


def heading(metric: str, reference: str) -> str:
    """Return what `advantage` is called, so that it is seen that more is better."""
    return f"speed / {reference}" if metric == TIME else f"{reference} / it"
