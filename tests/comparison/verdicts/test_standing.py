"""Behind, level or unclear."""

import numpy as np
import pytest

from tdjax.comparison.verdicts.standing import BEHIND, LEVEL, UNCLEAR, standing

NOISE = np.random.default_rng(0).standard_normal((2, 15))


def samples(center, row, noise=0.005):
    return list(center * (1 + noise * NOISE[row]))


@pytest.mark.parametrize(
    ("ratio", "noise", "expected"),
    [
        (1.20, 0.005, BEHIND),
        (1.08, 0.005, BEHIND),
        (1.03, 0.005, LEVEL),
        (1.07, 0.03, UNCLEAR),
        (1.00, 0.005, LEVEL),
        (1.08, 0.1, UNCLEAR),
        (1.00, 0.3, UNCLEAR),
    ],
)
def test_what_is_said_follows_the_interval(ratio, noise, expected):
    assert standing(samples(ratio, 0, noise), samples(1.0, 1, noise)) == expected


def test_few_rounds_tell_a_large_lead_only():
    assert standing([2.0, 2.1, 2.05], [1.0, 1.01, 1.0]) == BEHIND
    assert standing([1.2, 1.21, 1.2], [1.0, 1.0, 1.0]) == UNCLEAR
    assert standing([9.0], [1.0]) == UNCLEAR  # one sample has no interval


def test_a_lead_must_last():
    """Most rounds show a lead, and the second half of them none: it was a busy while."""
    leader = [1.0] * 41
    assert standing([1.2] * 20 + [1.2] * 5 + [1.0] * 16, leader) == UNCLEAR
    assert standing(([1.2] * 15 + [1.0] * 5) * 2, leader) == BEHIND
