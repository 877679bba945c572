"""From a function to a compiled program, each stage timed, with what its optimised text says."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import jax

from tdjax.comparison.hlo import (
    Movement,
    Steps,
    costs,
    counts,
    fingerprint,
    loops,
    movements,
    parse,
)
from tdjax.core.jaxpr import count_equations
from tdjax.strategies import recorded


@dataclass(frozen=True)
class Facts:
    """What an optimised program says of itself; None for what is not known.

    Attributes:
        loops: whether it holds a loop or a branch.
        flops, bytes_accessed, comm_bytes, estimated_cycles, hlo, program, movements: see `Entry`.
    """

    loops: bool = False
    flops: float | None = None
    bytes_accessed: float | None = None
    comm_bytes: int | None = None
    estimated_cycles: int | None = None
    hlo: dict[str, int] | None = None
    program: str | None = None
    movements: tuple[Movement, ...] | None = None

    def to_entry(self) -> dict[str, Any]:
        """Return the fields of an `Entry` that they fill."""
        return {name: value for name, value in vars(self).items() if name != "loops"}


def read(text: str | None, steps: Steps | None = None) -> Facts:
    """Return what an optimised HLO program says; nothing is known of a device without one."""
    if not text:
        return Facts()
    try:
        module = parse(text)
    except ValueError:  # Written by a compiler whose text this reader does not know.
        return Facts(loops=True, program=fingerprint(text))
    totals = costs(module)
    return Facts(
        loops=loops(module),
        flops=totals.flops,
        bytes_accessed=totals.bytes_accessed,
        comm_bytes=None if totals.comm_bytes is None else int(totals.comm_bytes),
        estimated_cycles=None if totals.cycles is None else int(totals.cycles),
        hlo=counts(module),
        program=fingerprint(text),
        movements=movements(module, steps),
    )


@dataclass(frozen=True)
class Program:
    """A compiled candidate.

    Attributes:
        run: the executable; takes the arrays it was compiled for.
        facts: what its optimised text says.
        trace_s, lower_s, compile_s: seconds of each stage.
        temp_bytes: temporary memory that it allocates.
        call_bytes: what a call adds to its arguments: temporary memory and outputs.
        chose: what `auto` took while it was traced, each once.
    """

    run: Any
    facts: Facts
    trace_s: float
    lower_s: float
    compile_s: float
    temp_bytes: int | None
    call_bytes: int | None = None
    chose: tuple[str, ...] = ()

    def to_entry(self) -> dict[str, Any]:
        """Return what an `Entry` says of its program."""
        return {
            "trace_s": self.trace_s,
            "lower_s": self.lower_s,
            "compile_s": self.compile_s,
            "temp_bytes": self.temp_bytes,
            **self.facts.to_entry(),
        }


class Building:
    """A program in the making: traced and lowered at once, compiled when it is started.

    XLA compiles without Python's lock, so that in another thread's time the next candidate can be
    traced, and the text of the last one read.

    Args:
        function: what to compile, for where the arguments lie.
        arguments: what it will be called with.
        steps: batch and time size, to name the axes that move.

    Attributes:
        operations: how many equations were lowered.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: Sequence[Any], steps: Steps | None = None
    ) -> None:
        start = time.perf_counter()
        with recorded() as decisions:
            traced = jax.jit(function).trace(*arguments)
        traced_at = time.perf_counter()
        self._chose = tuple(dict.fromkeys(str(each.strategy) for each in decisions))
        self._lowered = traced.lower()
        self._trace_s = traced_at - start
        self._lower_s = time.perf_counter() - traced_at
        self._steps = steps
        self._compiled: Future[tuple[Any, float]] | None = None
        self.operations = count_equations(traced.jaxpr)

    def start(self, compiler: Executor) -> None:
        """Have it compiled by a thread."""
        self._compiled = compiler.submit(_compile, self._lowered)

    def expected_s(self, first: Building) -> float:
        """Return the seconds that its compiler may take, by what the first of its kind took."""
        return first._result()[1] / max(1, first.operations) * self.operations

    def finish(self) -> Program:
        """Return the program when it is compiled."""
        compiled, compile_s = self._result()
        stats = compiled.memory_analysis()
        temporary = None if stats is None else int(stats.temp_size_in_bytes)
        return Program(
            run=compiled,
            facts=read(compiled.as_text(), self._steps),
            trace_s=self._trace_s,
            lower_s=self._lower_s,
            compile_s=compile_s,
            temp_bytes=temporary,
            call_bytes=None if temporary is None else temporary + int(stats.output_size_in_bytes),
            chose=self._chose,
        )

    def _result(self) -> tuple[Any, float]:
        if self._compiled is None:
            self._compiled = Future()
            self._compiled.set_result(_compile(self._lowered))
        return self._compiled.result()


def _compile(lowered: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    compiled = lowered.compile()
    return compiled, time.perf_counter() - start
