"""What ends a run politely, and how often it counts."""

import signal
import threading

import pytest

from tdjax.comparison.interrupts import heeding
from tdjax.comparison.progress import Silent


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
