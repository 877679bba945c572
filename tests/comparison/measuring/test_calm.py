"""Samples wait while other work slows the cores, but not for ever."""

import itertools

import pytest

from tdjax.comparison.measuring import calm
from tdjax.comparison.measuring.calm import Calm, calm_of_cpu


@pytest.fixture
def made(monkeypatch):
    """Return what waits, by the times that the probe takes, and the list of its pauses."""
    monkeypatch.setattr(calm, "_LOOK_EVERY_S", 0.0)
    pauses = []

    def make(*seconds):
        times = itertools.chain(seconds, itertools.repeat(seconds[-1]))
        return Calm(lambda: next(times), pauses.append), pauses

    return make


def test_it_waits_until_the_probe_is_as_fast_as_ever(made):
    waiting, pauses = made(1.0, 1.1, 1.4, 1.3, 1.2)
    assert waiting.wait(9.0) == 0.0
    assert waiting.wait(9.0) == pytest.approx(0.2) == sum(pauses)


def test_it_gives_up(made):
    waiting, pauses = made(1.0, 2.0)
    assert waiting.wait(0.5) == pytest.approx(0.5)
    assert waiting.wait(0.0) == 0.0
    assert len(pauses) == 5


def test_what_was_slow_from_the_beginning_is_what_the_machine_does(made):
    waiting, pauses = made(2.0, 2.0, 2.1)
    assert waiting.wait(9.0) == waiting.wait(9.0) == 0.0
    assert not pauses


def test_it_looks_a_few_times_a_second_only():
    looks = []
    waiting = Calm(lambda: looks.append(1) or 1.0)
    waiting.wait(1.0)
    waiting.wait(1.0)
    assert len(looks) == 2


def test_the_probe_of_this_machine_runs():
    assert calm_of_cpu() is calm_of_cpu()
    assert 0.0 <= calm_of_cpu().wait(0.05) <= 0.2
