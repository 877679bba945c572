"""Medians, paired ratios and their intervals."""

import numpy as np
import pytest

from tdjax.comparison import Entry
from tdjax.comparison.verdicts.intervals import (
    figures,
    median_interval,
    paired_medians,
    paired_ratio,
)

DRAWS = np.random.default_rng(0)


def test_one_sample_has_no_interval():
    assert median_interval([0.5]) == (0.5, None, None)
    assert paired_ratio([0.5], [0.25, 0.3]) == (2.0, None, None)


def test_few_samples_have_all_of_them_as_their_interval():
    values = [3.0, 1.0, 2.0, 5.0, 4.0]
    for count in range(2, 6):
        assert median_interval(values[:count])[1:] == (1.0, max(values[:count]))


def test_who_left_early_is_timed_by_its_ratio_to_who_took_every_round():
    samples = {"vmap": (4.0, 4.0, 2.0, 2.0, 2.0), "map": (8.0, 8.0), "fold": ()}
    entries = [
        Entry("w", "cpu", "measured", "forward", name, "ok", samples_s=own)
        for name, own in samples.items()
    ]
    assert paired_medians(entries) == {"vmap": 2.0, "map": 4.0}
    assert paired_medians(entries[2:]) == {}


@pytest.mark.parametrize("rounds", [6, 7, 10, 30, 101])
def test_intervals_hold_the_truth_as_often_as_they_say(rounds):
    """Times with a heavy tail, of two programs whose true ratio is 1.1."""
    held = 0
    for _ in range(400):
        noise = 1 + 0.05 * np.abs(DRAWS.standard_t(3, (2, rounds)))
        ratio = paired_ratio(list(1.1 * noise[0]), list(noise[1]))
        held += ratio.low <= 1.1 <= ratio.high
    assert 0.91 < held / 400 < 0.995


def test_an_interval_is_as_narrow_as_the_sign_test_allows():
    widths = [
        interval.high - interval.low
        for interval in (median_interval(list(DRAWS.standard_normal(60))) for _ in range(200))
    ]
    assert np.mean(widths) < 1.1 * 2 * 1.96 * np.sqrt(np.pi / 2 / 60)


def test_an_outlier_does_not_move_a_ratio():
    calm = [1.1] * 20
    assert paired_ratio(calm[:-1] + [9.0], [1.0] * 20) == pytest.approx((1.1, 1.1, 1.1))


def test_an_interval_covers_both_halves_of_the_rounds():
    """Most rounds show a lead, and the second half of them none: it was a busy while."""
    busy = paired_ratio([1.2] * 20 + [1.2] * 5 + [1.0] * 16, [1.0] * 41)
    assert (busy.value, busy.low, busy.high) == (1.2, 1.0, 1.2)
    spread_out = paired_ratio(([1.2] * 15 + [1.0] * 5) * 2, [1.0] * 40)
    assert spread_out.low == 1.2


def test_what_both_sides_share_cancels():
    weather = list(1 + DRAWS.random(12))
    ratio = paired_ratio([1.2 * w for w in weather], weather)
    assert ratio == pytest.approx((1.2, 1.2, 1.2))


def test_an_entrys_ratio_is_one_of_speeds():
    found = figures((1.0, 2.0, 4.0), (2.0, 4.0, 8.0))
    assert (found["median_s"], found["median_low_s"], found["median_high_s"]) == (2.0, 1.0, 4.0)
    assert (found["ratio"], found["ratio_low"], found["ratio_high"]) == (2.0, 2.0, 2.0)
    assert "ratio" not in figures((1.0,), ()) and figures((), (1.0,)) == {}
