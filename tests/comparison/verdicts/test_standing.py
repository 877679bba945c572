"""Ahead, behind, level or open; and who is in front."""

import numpy as np
import pytest

from tdjax.comparison.verdicts.intervals import Interval
from tdjax.comparison.verdicts.standing import Speed, front, speed

NOISE = np.random.default_rng(0).standard_normal((6, 25))


def samples(center, row=0, noise=0.005, rounds=25):
    return list(center * (1 + noise * NOISE[row][:rounds]))


@pytest.mark.parametrize(
    ("ratio", "noise", "expected"),
    [
        (1.20, 0.005, "behind"),
        (1.05, 0.005, "behind"),
        (0.80, 0.005, "ahead"),
        (1.01, 0.005, "level"),
        (0.99, 0.005, "level"),
        (1.03, 0.005, "open"),  # neither clear by over 3%, nor within it
        (1.05, 0.1, "open"),
        (1.00, 0.3, "open"),
    ],
)
def test_a_comparison_is_closed_by_over_3_percent_or_within_3_percent(ratio, noise, expected):
    pair = speed(samples(ratio, 0, noise), samples(1.0, 1, noise))
    found = {"ahead": pair.ahead, "behind": pair.behind, "level": pair.level}
    found["open"] = not pair.closed
    assert [name for name, holds in found.items() if holds] == [expected]


def test_few_rounds_tell_a_large_difference_only():
    assert speed([2.0, 2.1, 2.05], [1.0, 1.01, 1.0]).behind
    assert not speed([1.2, 1.21, 1.2], [1.0, 1.0, 1.0]).closed
    assert not speed([1.0, 1.0, 1.0], [1.0, 1.01, 1.0]).closed
    assert not speed([9.0], [1.0]).closed  # one sample has no interval


def test_the_front_is_who_is_not_clearly_behind_the_leader():
    found = front({"a": samples(1.2), "b": samples(1.0, 1), "c": samples(1.01, 2)})
    assert set(found.members) == {"b", "c"} and found.next == "a" and found.closed
    assert 1.0 < found.apart < 1.03
    alone = front({"a": samples(1.2), "b": samples(1.0, 1), "c": samples(1.5, 2)})
    assert (alone.members, alone.next, alone.apart, alone.closed) == (("b",), "a", 1.0, True)


def test_a_set_whose_every_member_is_clear_of_the_rest_is_an_answer_though_not_told_apart():
    noisy = {f"f{row}": samples(1.0, row, 0.1) for row in range(3)}
    assert not front(noisy).closed
    found = front({**noisy, "slow": samples(2.0, 3, 0.1)})
    assert set(found.members) == set(noisy) and found.closed and 1.03 < found.apart < 1.2


def test_a_member_that_is_not_told_apart_from_the_rest_leaves_the_set_open():
    found = front({"a": samples(1.0), "b": samples(1.04, 1, 0.03), "c": samples(1.05, 2)})
    assert found.members == ("a", "b") and not found.closed


def test_members_far_apart_are_no_answer():
    wild = {f"f{row}": samples(1.0, row, 0.4, rounds=7) for row in range(2)}
    assert not front({**wild, "slow": samples(30.0, 3, rounds=7)}).closed


def test_the_leader_is_found_in_the_rounds_that_the_best_took():
    """A reference that is far behind leaves early; its few rounds must not say who leads."""
    second = [0.5, 0.5, 0.5, *samples(1.2, 1)[3:]]  # what disturbed the first was kind to one
    found = front({"slow": samples(9.0, rounds=3), "first": samples(1.0, 2), "second": second})
    assert found.members == ("first",)


def test_the_rounds_that_would_close_a_comparison_are_as_many_as_it_is_unsure():
    few, many, near = (
        Speed(Interval(value, value / width, value * width), 25).rounds_to_close
        for value, width in ((1.0, 1.05), (1.0, 1.2), (1.03, 1.05))
    )
    assert 0 < few < many <= 3 * 25 and few < near <= 3 * 25
    closed = speed(samples(1.2), samples(1.0, 1))
    assert closed.closed and closed.rounds_to_close == 0
    assert front({"a": samples(1.0), "b": samples(1.2, 1)}).rounds_to_close == 0
    assert front({"a": samples(1.0, 0, 0.1), "b": samples(1.0, 1, 0.1)}).rounds_to_close > 0


def test_who_is_not_clear_of_a_member_is_a_member_if_that_makes_the_set_an_answer():
    """b is behind the leader and not told apart from c, which is not; all are clear of the rest."""
    times = {"a": samples(1.0), "b": samples(1.05, 1), "c": samples(1.05, 2, 0.06)}
    assert front(times).members == ("a", "c") and not front(times).closed
    found = front({**times, "slow": samples(1.3, 3)})
    assert set(found.members) == {"a", "b", "c"} and found.closed and found.next == "slow"
    assert 1.04 < found.apart < 1.2


def test_in_doubt_are_the_members_and_those_that_one_of_them_is_not_clear_of():
    found = front({"a": samples(1.0), "b": samples(1.04, 1, 0.03), "c": samples(1.05, 2)})
    assert set(found.in_doubt) == {"a", "b", "c"}
    found = front({"a": samples(1.0, 0, 0.1), "b": samples(1.0, 1, 0.1), "slow": samples(2.0, 2)})
    assert set(found.in_doubt) == {"a", "b"}


def test_telling_which_is_faster_takes_fewer_rounds_than_telling_by_how_much():
    wide = Speed(Interval(1.02, 0.98, 1.06), 25)
    assert 0 < wide.rounds_to_separate < wide.rounds_to_close
    assert Speed(Interval(1.02, 1.01, 1.04), 25).rounds_to_separate == 0
