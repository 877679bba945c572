"""What ends a run politely, and how often it counts."""

import signal
import sys
import threading

import pytest

from tdjax.comparison.system.interrupts import heeding
from tdjax.comparison.system.progress import Silent


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Hear Ctrl-C, which a shell lets what runs in its background ignore."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


def test_a_kill_that_comes_twice_counts_once_and_ctrl_c_each_time():
    # Where nobody listens, a kill ends the tests.
    assert threading.current_thread() is threading.main_thread()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with heeding(Silent()) as told:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert told.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


class Callback:
    """Something that Python calls where nobody can see what is raised."""

    def __init__(self, action):
        self.action = action

    def __del__(self):
        self.action()


def test_a_ctrl_c_that_a_callback_lost_is_heeded_and_not_complained_of(monkeypatch):
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: complaints.append(lost.exc_type))
    with heeding(Silent()) as told:
        Callback(lambda: signal.raise_signal(signal.SIGINT))
        assert told.asked and complaints == []
        with pytest.raises(KeyboardInterrupt):
            told.update("a step", 0.5)
        Callback(lambda: 1 // 0)
    assert complaints == [ZeroDivisionError]
