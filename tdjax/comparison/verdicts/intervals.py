"""Medians and ratios with their intervals, by bootstrap.

A sample that another process disturbs moves a mean, so times are summarized by their median.
Ratios are taken round by round, so that a machine that slows down slows both sides of one, and
summarized by their interquartile mean: equally robust, and more precise with few rounds, it does
not jump where a program has two speeds.

References:
    B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    T. Kalibera and R. Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013.
    R. Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice,
    NeurIPS 2021 (the interquartile mean under the bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from tdjax.comparison.verdicts.entry import Entry

RESAMPLES = 2000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate with the bounds of its interval, None where there is only one sample."""

    value: float
    low: float | None
    high: float | None


def median_interval(samples: Sequence[float]) -> Interval:
    """Return the median with its bootstrap interval.

    The resampling is seeded: the same samples give the same interval.
    """
    return _interval(
        np.asarray(samples, dtype=np.float64), lambda values: np.median(values, axis=-1)
    )


def paired_ratio(samples: Sequence[float], against: Sequence[float]) -> Interval:
    """Return `samples / against` with its interval, paired by round.

    Sample i of both was taken in round i; rounds that only one has are left out.
    """
    return _interval(_paired(samples, against), interquartile_mean)


def paired_medians(entries: Iterable[Entry]) -> dict[str, float]:
    """Return the median time of each strategy that has samples, as if measured in every round.

    One that left early may have been measured while the machine was slower than later. So its time
    is its paired ratio to the strategy with the most rounds, times that one's median.
    """
    samples = {entry.strategy: entry.samples_s for entry in entries if entry.samples_s}
    pivot = max(samples.values(), key=len, default=())
    return {
        strategy: float(interquartile_mean(_paired(own, pivot))) * median(pivot)
        for strategy, own in samples.items()
    }


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of the last axis; of two values, or one, the mean."""
    count = values.shape[-1]
    cut = count // 4
    ordered = np.sort(values, axis=-1)[..., cut : count - cut]
    return np.asarray(np.mean(ordered, axis=-1))


def _paired(samples: Sequence[float], against: Sequence[float]) -> np.ndarray:
    """Return the ratio of each round that both have."""
    return np.asarray([ours / theirs for ours, theirs in zip(samples, against, strict=False)])


def _interval(values: np.ndarray, estimate: Callable[[np.ndarray], np.ndarray]) -> Interval:
    value = float(estimate(values))
    if len(values) < 2:
        return Interval(value, None, None)
    picks = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(estimate(values[picks]), (tail, 1 - tail))
    return Interval(value, float(low), float(high))
