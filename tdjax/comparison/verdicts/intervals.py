"""Medians and ratios with their intervals, by bootstrap.

One sample disturbed by another process moves a mean, so times are told by their median. Ratios
are taken round by round, so that a machine that slows down slows both sides of one, and told by
their interquartile mean: as deaf to outliers, it makes more of few rounds, and does not jump
where a program has two speeds.

References:
    B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    T. Kalibera and R. Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013.
    R. Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice,
    NeurIPS 2021 (the interquartile mean under the bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    return _interval(samples, lambda values: np.median(values, axis=-1))


def paired_ratio(samples: Sequence[float], against: Sequence[float]) -> Interval:
    """Return `samples / against` with its interval, paired by round.

    Sample i of both was taken in round i; rounds that only one has are left out.
    """
    rounds = min(len(samples), len(against))
    return _interval([samples[i] / against[i] for i in range(rounds)], interquartile_mean)


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of the last axis; of two values, or one, the mean."""
    count = values.shape[-1]
    cut = count // 4
    ordered = np.sort(values, axis=-1)[..., cut : count - cut]
    return np.asarray(np.mean(ordered, axis=-1))


def _interval(samples: Sequence[float], estimate: Callable[[np.ndarray], np.ndarray]) -> Interval:
    values = np.asarray(samples, dtype=np.float64)
    value = float(estimate(values))
    if len(values) < 2:
        return Interval(value, None, None)
    picks = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(estimate(values[picks]), (tail, 1 - tail))
    return Interval(value, float(low), float(high))
