"""The figure that a group is ranked by: time where it was measured, else what the compiler says."""

from __future__ import annotations

from collections.abc import Sequence

from tdjax.comparison import numbers
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry

TIME = "time"
CYCLES = "estimated_cycles"
BYTES = "bytes_accessed"


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


def ratio(entry: Entry, against: Entry | None, metric: str) -> str:
    """Return an entry's figure over the reference's, or the strategy whose program it shares."""
    if entry.same_as is not None:
        return f"= {naming.short(entry.same_as)}"
    own, base = figure(entry, metric), None if against is None else figure(against, metric)
    return f"{own / base:.2f}" if own is not None and base else numbers.UNKNOWN
