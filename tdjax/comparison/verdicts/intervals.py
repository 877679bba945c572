"""Medians with their intervals, of samples and of ratios that are paired by round.

A sample that another process disturbs moves a mean, so everything is summarized by its median.
Ratios are taken round by round, so that a machine that slows down slows both sides of one.

An interval is that of the sign test: between two of the ordered values, whichever distribution they
come from, interpolated so that it holds the truth in 95% of all cases (fewer than six values hold
it less often, whichever are taken: then it is all of them). The test takes rounds for independent.
A machine that is busy for a while makes them alike, so that the interval also covers the medians of
the first and of the second half of the rounds.

References:
    T. Hettmansperger and S. Sheather, Confidence Intervals Based on Interpolated Order Statistics,
    Statistics and Probability Letters 4, 1986.
    T. Kalibera and R. Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from tdjax.comparison.verdicts.entry import Entry

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate with the bounds of its interval, None where there is only one sample."""

    value: float
    low: float | None
    high: float | None


SAME = Interval(1.0, 1.0, 1.0)
"""The ratio of a program to itself."""


def median_interval(samples: Sequence[float]) -> Interval:
    """Return the median with its interval; the samples are in the order of their rounds."""
    value = float(median(samples))
    count = len(samples)
    if count < 2:
        return Interval(value, None, None)
    ordered = sorted(samples)
    place, part = _bounds(count)
    after = min(place + 1, count - 1 - place)
    low = ordered[place] + part * (ordered[after] - ordered[place])
    high = ordered[-1 - place] + part * (ordered[-1 - after] - ordered[-1 - place])
    halves = median(samples[: count // 2]), median(samples[-(count // 2) :])
    return Interval(value, float(min(low, *halves)), float(max(high, *halves)))


def paired_ratio(samples: Sequence[float], against: Sequence[float]) -> Interval:
    """Return the median of `samples / against` with its interval, paired by round.

    Sample i of both was taken in round i; rounds that only one has are left out. Of times, it is
    how many times as fast the second one is.
    """
    return median_interval([a / b for a, b in zip(samples, against, strict=False)])


def figures(samples: Sequence[float], against: Sequence[float]) -> dict[str, Any]:
    """Return what an `Entry` holds of its samples: its median, and its speed over the reference's.

    Args:
        samples: its own.
        against: the reference's; empty where it was not measured.
    """
    known: dict[str, Any] = {}
    if samples:
        value, low, high = median_interval(samples)
        known |= {"median_s": value, "median_low_s": low, "median_high_s": high}
    if samples and against:
        value, low, high = paired_ratio(against, samples)
        known |= {"ratio": value, "ratio_low": low, "ratio_high": high}
    return known


def paired_times(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median time of each that has samples, as if measured in every round.

    One that left early may have been measured while the machine was slower than later. So its time
    is its paired ratio to the one with the most rounds, times that one's median.
    """
    pivot = max(samples.values(), key=len, default=())
    middle = median(pivot) if pivot else 0.0
    return {name: paired_ratio(own, pivot).value * middle for name, own in samples.items() if own}


def paired_medians(entries: Iterable[Entry]) -> dict[str, float]:
    """Return `paired_times` of the entries, by strategy."""
    return paired_times({entry.strategy: entry.samples_s for entry in entries})


@functools.cache
def _bounds(count: int) -> tuple[int, float]:
    """Return which of the ordered values is the lower bound, and the part of the way to the next.

    The interval between the values at places k and -1-k, from 0, leaves out the median if at most k
    of the values are on one side of it, each with the chance of a coin.
    """
    outside, place = 2 * 0.5**count, 0
    if outside > 1 - CONFIDENCE:
        return 0, 0.0
    while (further := outside + 2 * math.comb(count, place + 1) * 0.5**count) <= 1 - CONFIDENCE:
        outside, place = further, place + 1
    share = (1 - CONFIDENCE - outside) / (further - outside)
    # Coverage is not linear in between: this is the weight that fits a Laplace distribution.
    rank = place + 1
    return place, (count - rank) * share / (rank + (count - 2 * rank) * share)
