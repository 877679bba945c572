"""Medians and ratios with their intervals, by bootstrap.

Medians rather than means: one sample disturbed by another process moves a mean, not a median.
Ratios are taken round by round, so that a machine that slows down slows both sides of one.

References:
    B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    T. Kalibera and R. Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate with the bounds of its interval, None where there is one sample only."""

    value: float
    low: float | None
    high: float | None


def median_interval(samples: Sequence[float]) -> Interval:
    """Return the median with its bootstrap interval.

    The resampling is seeded: the same samples give the same interval.
    """
    values = np.asarray(samples, dtype=np.float64)
    median = float(np.median(values))
    if len(values) < 2:
        return Interval(median, None, None)
    picks = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.median(values[picks], axis=1), (tail, 1 - tail))
    return Interval(median, float(low), float(high))


def paired_ratio(samples: Sequence[float], against: Sequence[float]) -> Interval:
    """Return `samples / against` with its interval, paired by round.

    Sample i of both was taken in round i; rounds that only one has are left out.
    """
    rounds = min(len(samples), len(against))
    return median_interval([samples[i] / against[i] for i in range(rounds)])
