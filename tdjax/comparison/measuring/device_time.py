"""Seconds on the device alone, from JAX's profiler: wall time includes the dispatch."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData

from tdjax.comparison.measuring.program import CompiledProgram
from tdjax.comparison.measuring.rotation import Rotation

_FEWEST_CALLS, _MOST_CALLS = 3, 50
_SECONDS = 0.2
# The lines of a device's plane that show its work: on GPUs one for each stream, on TPUs one.
_LINES = {"/device:GPU:": "Stream", "/device:TPU:": "XLA Ops"}


def device_seconds(program: CompiledProgram, inputs: Rotation, call_s: float) -> float | None:
    """Return the seconds of a call in which its device works, None without a profile.

    Args:
        program: what to call.
        inputs: its arguments.
        call_s: about how long a call takes, which decides how many are profiled.
    """
    calls = min(_MOST_CALLS, max(_FEWEST_CALLS, math.ceil(_SECONDS / max(call_s, 1e-6))))
    try:
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                for _ in range(calls):
                    jax.block_until_ready(program.executable(*inputs.turn()))
            (profile,) = Path(folder).rglob("*.xplane.pb")
            busy_s = busiest(ProfileData.from_file(str(profile)))
    except (RuntimeError, ValueError, OSError):  # Another profile is being taken, or none can.
        return None
    return None if busy_s is None else busy_s / calls


def busiest(profile: Any) -> float | None:
    """Return the seconds in which the busiest device of a profile worked, None without one."""
    found = []
    for plane in profile.planes:
        line_name = next((name for kind, name in _LINES.items() if plane.name.startswith(kind)), "")
        lines = [line for line in plane.lines if line_name and line.name.startswith(line_name)]
        spans = [(event.start_ns, event.end_ns) for line in lines for event in line.events]
        if spans:
            found.append(_covered(spans) * 1e-9)
    return max(found, default=None)


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return how much of a line these spans cover; overlaps count once."""
    covered, reached = 0.0, -math.inf
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered
