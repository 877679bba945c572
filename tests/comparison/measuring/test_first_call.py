"""First calls: a candidate that is slow, wrong or endless becomes a row with its reason."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tdjax.comparison.measuring.call_client import CallClient, TimedCall
from tdjax.comparison.measuring.candidate import MeasuredCandidate
from tdjax.comparison.measuring.first_call import FirstCalls
from tdjax.comparison.measuring.program import Building

pytestmark = pytest.mark.usefixtures("on_cpu")


def spin(steps):
    """A program that loops for long, and cannot be interrupted."""

    def run(arrays, cotangents):
        looped = jax.lax.fori_loop(0, steps, lambda i, x: jnp.sin(x) + 1e-3, arrays[0])
        return [jnp.cos(arrays[0]) + 1e-9 * looped]

    return Building(run, ARGUMENTS).finish()


ARGUMENTS = ([np.linspace(0.0, 1.0, 1000, dtype=np.float32)], [])
FOREVER = 10**9


@pytest.fixture(scope="module")
def client():
    with CallClient("cpu") as shared:
        yield shared


def calls(reference, client, timeout_s):
    return FirstCalls(ARGUMENTS, "cpu", client, timeout_s, reference)


def test_an_endless_candidate_is_a_row_without_samples(client):
    reference = MeasuredCandidate("vmap", program=spin(2))
    endless = MeasuredCandidate("map", program=spin(FOREVER))
    first = calls(reference, client, timeout_s=1.5)
    first.call(reference)
    first.call(endless)
    assert reference.status == "ok" and reference.first_run_s > 0
    assert endless.status == "timeout"
    assert endless.error.startswith("cut: its first call was still running after 1.5 s")
    assert endless.samples == [] and endless.first_run_s is None


class Answering:
    """Stands in for the client: every call took this long and gave this answer."""

    def __init__(self, seconds, outputs):
        self.answer = TimedCall(seconds, outputs)

    def first_call(self, program, arguments, deadline, enough_s):
        assert self.answer.seconds > enough_s
        return self.answer


def test_a_far_slower_candidate_is_cut_with_its_one_sample(client):
    reference = MeasuredCandidate("vmap", program=spin(2))
    first = calls(reference, client, timeout_s=1e6)
    first.call(reference)
    first._client = Answering(5e4, [np.asarray(reference.program.executable(*ARGUMENTS)[0])])
    slow = MeasuredCandidate("map", program=spin(3))
    first.call(slow)
    assert slow.status == "timeout"
    assert slow.error.startswith("cut after one call: ") and slow.error.endswith("x the leader")
    assert slow.samples == [5e4] and slow.max_rel_error == 0.0


def test_a_wrong_answer_is_a_failed_row(client):
    reference = MeasuredCandidate("vmap", program=spin(2))
    program = Building(lambda arrays, _: [1.1 * arrays[0]], ARGUMENTS).finish()
    wrong = MeasuredCandidate("fold", program=program)
    first = calls(reference, client, timeout_s=60)
    first.call(reference)
    first.call(wrong)
    assert wrong.status == "failed"
    assert wrong.error.startswith("disagrees with vmap: array 0 of the answer is off by")
    assert wrong.max_rel_error > 1e-3
    assert wrong.samples == []


def test_a_candidate_that_the_machine_has_no_memory_for_is_a_row_and_never_called(
    client, monkeypatch
):
    reference = MeasuredCandidate("vmap", program=spin(2))
    assert reference.program.call_bytes >= ARGUMENTS[0][0].nbytes
    first = calls(reference, client, timeout_s=60)
    monkeypatch.setattr("tdjax.comparison.system.memory.free", lambda: 1)
    first.call(reference)
    assert (reference.status, reference.first_run_s) == ("failed", None)
    assert "out of memory: a call takes" in reference.error
