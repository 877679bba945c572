"""From a function to a compiled program, each stage timed, with what the compiler says of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from tdjax.comparison import hlo


@dataclass(frozen=True)
class Program:
    """A compiled candidate.

    Attributes:
        run: the executable; takes the arrays it was compiled for.
        loops: whether its optimised program holds a loop or a branch.
        trace_s, lower_s, compile_s: seconds of each stage.
        flops, bytes_accessed, temp_bytes, counts, fingerprint: see `Entry`.
    """

    run: Any
    loops: bool
    trace_s: float
    lower_s: float
    compile_s: float
    flops: float | None
    bytes_accessed: float | None
    temp_bytes: int | None
    counts: dict[str, int] | None
    fingerprint: str | None

    def facts(self) -> dict[str, Any]:
        """Return what an `Entry` says of its program."""
        return {
            "trace_s": self.trace_s,
            "lower_s": self.lower_s,
            "compile_s": self.compile_s,
            "flops": self.flops,
            "bytes_accessed": self.bytes_accessed,
            "temp_bytes": self.temp_bytes,
            "hlo": self.counts,
            "program": self.fingerprint,
        }


def build(function: Callable[..., Any], arguments: Sequence[Any]) -> Program:
    """Trace, lower and compile `function(*arguments)` for where the arguments lie."""
    start = time.perf_counter()
    traced = jax.jit(function).trace(*arguments)
    traced_at = time.perf_counter()
    lowered = traced.lower()
    lowered_at = time.perf_counter()
    compiled = lowered.compile()
    compiled_at = time.perf_counter()
    text = compiled.as_text()
    costs = _costs(compiled, text)
    return Program(
        run=compiled,
        loops=bool(text) and hlo.loops(text),
        trace_s=traced_at - start,
        lower_s=lowered_at - traced_at,
        compile_s=compiled_at - lowered_at,
        flops=costs.get("flops"),
        bytes_accessed=costs.get("bytes accessed"),
        temp_bytes=_temporary_memory(compiled),
        counts=hlo.counts(text) if text else None,
        fingerprint=hlo.fingerprint(text) if text else None,
    )


def _costs(compiled: Any, text: str | None) -> dict[str, float]:
    """Return the compiler's counts where they can be trusted.

    XLA counts a loop's body once, a branch as its worst case and a custom call as -1.
    """
    if not text or hlo.loops(text) or hlo.operations(text)["custom-call"]:
        return {}
    costs = compiled.cost_analysis() or {}
    if isinstance(costs, list):
        costs = costs[0] if costs else {}
    return {name: value for name, value in costs.items() if value >= 0}


def _temporary_memory(compiled: Any) -> int | None:
    stats = compiled.memory_analysis()
    return None if stats is None else int(stats.temp_size_in_bytes)
