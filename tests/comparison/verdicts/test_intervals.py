"""Medians, interquartile means and their intervals."""

import numpy as np
import pytest

from tdjax.comparison import Entry
from tdjax.comparison.verdicts.intervals import (
    interquartile_mean,
    median_interval,
    paired_medians,
    paired_ratio,
)

DRAWS = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.0], 2.0),
        ([1.0, 3.0], 2.0),
        ([1.0, 2.0, 30.0], 11.0),  # too few for a middle half
        ([9.0, 1.0, 2.0, 3.0], 2.5),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 700.0], 3.5),
    ],
)
def test_the_interquartile_mean_is_that_of_the_middle_half(values, expected):
    assert interquartile_mean(np.array(values)) == expected


def test_one_sample_has_no_interval():
    assert median_interval([0.5]) == (0.5, None, None)
    assert paired_ratio([0.5], [0.25, 0.3]) == (2.0, None, None)


def test_who_left_early_is_timed_by_its_ratio_to_who_took_every_round():
    samples = {"vmap": (4.0, 4.0, 2.0, 2.0, 2.0), "map": (8.0, 8.0), "fold": ()}
    entries = [
        Entry("w", "cpu", "measured", "forward", name, "ok", samples_s=own)
        for name, own in samples.items()
    ]
    assert paired_medians(entries) == {"vmap": 2.0, "map": 4.0}
    assert paired_medians(entries[2:]) == {}


@pytest.mark.parametrize("rounds", [10, 30, 100])
def test_intervals_hold_the_truth_as_often_as_they_say(rounds):
    """Times with a heavy tail, of two programs whose true ratio is 1.1."""
    held = 0
    for _ in range(200):
        noise = 1 + 0.05 * np.abs(DRAWS.standard_t(3, (2, rounds)))
        ratio = paired_ratio(list(1.1 * noise[0]), list(noise[1]))
        held += ratio.low <= 1.1 <= ratio.high
    assert held / 200 > 0.88


def test_an_outlier_does_not_move_a_ratio():
    calm = [1.1] * 20
    assert paired_ratio(calm[:-1] + [9.0], [1.0] * 20).value == pytest.approx(1.1)


def test_a_ratio_is_tighter_than_that_of_medians():
    """The reason for it: the same samples tell more."""
    widths = []
    for _ in range(100):
        samples = 1 + 0.05 * DRAWS.standard_normal(15)
        mean, median = paired_ratio(list(samples), [1.0] * 15), median_interval(list(samples))
        widths.append((mean.high - mean.low, median.high - median.low))
    narrow, wide = np.mean(widths, axis=0)
    assert narrow < 0.9 * wide


def test_what_both_sides_share_cancels():
    weather = list(1 + DRAWS.random(12))
    ratio = paired_ratio([1.2 * w for w in weather], weather)
    assert ratio == pytest.approx((1.2, 1.2, 1.2))
