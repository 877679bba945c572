"""A child process: what it answers, how long it may take, and how its end is told."""

import os
import signal

import pytest

from tdjax.comparison.system.child import Child, ChildDied, TooSlow

SCRIPT = """
import os, pickle, sys, time
while True:
    request = pickle.load(sys.stdin.buffer)
    if request == "sleep":
        time.sleep(60)
    if request == "die":
        sys.stderr.write("first\\nlast words\\n")
        sys.exit(3)
    if isinstance(request, int):
        os.kill(os.getpid(), request)
    pickle.dump(request, sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def child(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    made = Child(script, {})
    yield made
    made.close()


def test_answers_come_in_their_order(child):
    assert [child.ask(request, 60) for request in ("a", "b")] == ["a", "b"]
    assert not child.ended


def test_a_late_answer_ends_it(child):
    with pytest.raises(TooSlow):
        child.ask("sleep", 0.2)
    assert child.ended


def test_a_watch_is_asked_until_the_answer_is_there_and_can_end_it(child):
    class Enough(Exception):
        pass

    looks = []

    def watch():
        looks.append(child.pid)
        os.kill(child.pid, 0)
        if len(looks) == 3:
            raise Enough

    assert child.ask("at once", 60, watch) == "at once"
    looks.clear()
    with pytest.raises(Enough):
        child.ask("sleep", 60, watch)
    assert len(looks) == 3 and child.ended


def test_its_end_is_told_with_its_last_words(child):
    with pytest.raises(ChildDied, match=r"^ended with code 3: last words$"):
        child.ask("die", 60)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, "killed from outside .signal 9., as a system does that runs out of mem"),
        (signal.SIGABRT, f"ended by signal {int(signal.SIGABRT)} .Aborted"),
    ],
)
def test_a_signal_is_told_in_words(child, number, said):
    with pytest.raises(ChildDied, match=said):
        child.ask(int(number), 60)


@pytest.mark.parametrize("asked", ["", "1"])
def test_what_it_prints_is_shown_to_who_asks(child, capfd, monkeypatch, asked):
    monkeypatch.setenv("TDJAX_VERBOSE", asked)
    with pytest.raises(ChildDied, match="ended with code 3: last words"):
        child.ask("die", 60)
    assert capfd.readouterr().err == ("first\nlast words\n" if asked else "")
