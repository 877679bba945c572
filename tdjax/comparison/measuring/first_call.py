"""The first call of every candidate: is its answer right, and is it worth more calls?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tdjax.comparison import numbers
from tdjax.comparison.measuring.agreement import disagreement, why_off
from tdjax.comparison.measuring.call_client import CallClient
from tdjax.comparison.measuring.candidate import MeasuredCandidate
from tdjax.comparison.measuring.program import CompiledProgram
from tdjax.comparison.system import memory
from tdjax.comparison.system.child import Failed, TooSlow
from tdjax.comparison.verdicts.entry import EXPLAINED

CUT_RATIO = 6.0
CUT_SECONDS = 0.25
DEADLINE_RATIO = 6.0
DEADLINE_SECONDS = 2.0


class FirstCalls:
    """Calls candidates once each, and cuts those that are far slower than the leader.

    Args:
        arguments: the pytrees of arrays that every candidate takes.
        platform: "cpu", "gpu" or "tpu".
        client: calls programs that loop first, on a CPU.
        timeout_s: the longest that one call may take.
        reference: whose answer is the right one, unless there is a better one.
        gradients: how many arrays of an answer, the last ones, are gradients: one that a relu,
            flipped by rounding, moves in a few places is right.
        expected: the right answer; None for the reference's.
        patient: whether one that is far slower than the leader is called to the end.
    """

    def __init__(
        self,
        arguments: Sequence[Any],
        platform: str,
        client: CallClient,
        timeout_s: float,
        reference: MeasuredCandidate,
        gradients: int = 0,
        expected: list[np.ndarray] | None = None,
        patient: bool = False,
    ) -> None:
        self._arguments = arguments
        self._platform = platform
        self._client = client
        self._timeout_s = timeout_s
        self._reference = reference
        self._gradients = gradients
        self._expected = expected
        self._right = reference.name if expected is None else "float32"
        self._patient = patient
        self._leader_s: float | None = None

    def call(self, candidate: MeasuredCandidate) -> None:
        """Call a candidate once; drop it if it fails, is wrong or is far slower."""
        assert candidate.program is not None
        if self._platform == "cpu" and (problem := _too_large(candidate.program)):
            candidate.drop("failed", problem)
            return
        risky = candidate.program.facts.loops and self._platform == "cpu"
        if risky and not self._call_elsewhere(candidate):
            return
        start = time.perf_counter()
        try:
            outputs = jax.block_until_ready(candidate.program.executable(*self._arguments))
        except Exception as error:  # The device's error is this row's reason.
            candidate.drop("failed", f"{type(error).__name__}: {error}")
            return
        candidate.first_run_s = time.perf_counter() - start
        self._accept(candidate, candidate.first_run_s, [np.asarray(leaf) for leaf in outputs])

    def _call_elsewhere(self, candidate: MeasuredCandidate) -> bool:
        """Call it in another process first; return whether a call in this one is safe."""
        deadline = self._timeout_s
        if self._leader_s is not None:
            deadline = min(deadline, max(DEADLINE_SECONDS, DEADLINE_RATIO * self._leader_s))
        enough_s = None if self._patient else self._enough_s
        assert candidate.program is not None
        try:
            call = self._client.first_call(candidate.program, self._arguments, deadline, enough_s)
        except TooSlow:
            candidate.drop("timeout", self._still_running(deadline))
            return False
        except Failed as error:
            candidate.drop("failed", str(error))
            return False
        if call is None or call.outputs is None:
            return True
        candidate.first_run_s = call.seconds
        self._accept(candidate, call.seconds, call.outputs)
        return False

    def _accept(
        self, candidate: MeasuredCandidate, seconds: float, outputs: list[np.ndarray]
    ) -> None:
        if candidate is self._reference and self._expected is None:
            self._expected = outputs
        if self._expected is not None:
            assert self._reference.program is not None
            jumping = self._gradients if self._reference.program.facts.chooses else 0
            error, problem = disagreement(outputs, self._expected, self._platform, jumping)
            candidate.max_rel_error = error
            if problem is not None:
                candidate.disagrees = True
                candidate.drop("failed", f"disagrees with {self._right}: {problem}")
                return
            if error is not None and error > EXPLAINED:
                candidate.error = why_off(outputs, self._expected, self._platform)
        if seconds > self._enough_s:
            candidate.samples, candidate.calls_per_sample = [seconds], 1
            candidate.drop("timeout", self._cut(seconds))
        elif not self._patient:
            self._leader_s = min(seconds, self._leader_s or seconds)

    @property
    def _enough_s(self) -> float:
        """The seconds above which a call is too slow to be measured."""
        if self._leader_s is None:
            return self._timeout_s
        return min(self._timeout_s, max(CUT_SECONDS, CUT_RATIO * self._leader_s))

    def _cut(self, seconds: float) -> str:
        if self._leader_s is None or seconds <= CUT_RATIO * self._leader_s:
            return f"cut after one call: {seconds:.3g} s, the timeout is {self._timeout_s:g} s"
        return f"cut after one call: {seconds / self._leader_s:.0f}x the leader"

    def _still_running(self, deadline: float) -> str:
        text = f"cut: its first call was still running after {deadline:.3g} s"
        if self._leader_s is None:
            return text
        return f"{text}, {deadline / self._leader_s:.0f}x the leader's"


def _too_large(program: CompiledProgram) -> str | None:
    """Return a sentence where a call takes more memory than is free, else None.

    The kernel would end this process; an accelerator raises an error instead.
    """
    free = memory.free()
    if free is None or program.call_bytes is None or program.call_bytes < free:
        return None
    needed, left = numbers.memory(program.call_bytes), numbers.memory(free)
    return f"out of memory: a call takes {needed}, {left} are free"
