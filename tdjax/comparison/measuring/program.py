"""From a function to a compiled program, each stage timed, with what its optimized text says."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import Any

import jax

from tdjax.comparison.hlo import Facts, Steps, read_facts
from tdjax.core.jaxpr import count_equations
from tdjax.strategies import recorded


@dataclass(frozen=True)
class CompiledProgram:
    """A compiled candidate.

    Attributes:
        executable: what to call with the arguments that it was compiled for.
        facts: what its optimized text says.
        trace_s, lower_s, compile_s: seconds of each stage.
        temp_bytes: temporary memory that it allocates.
        call_bytes: what a call adds to its arguments: temporary memory and outputs.
        chose: the strategies that `auto` took while it was traced, each once.
    """

    executable: Any
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

    XLA compiles without Python's lock: while one thread compiles, another can trace the next
    candidate and read the text of the last.

    Args:
        function: what to compile, for where the arguments lie.
        arguments: what it will be called with.
        steps: batch and time size, to name the axes that move.
        mode: "forward" or "grad": what `auto` takes may depend on it.

    Attributes:
        operations: how many equations were lowered.
        text: what was lowered; the compiler makes the same program of the same text.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        steps: Steps | None = None,
        mode: str = "forward",
    ) -> None:
        start = time.perf_counter()
        with recorded() as decisions:
            traced = jax.jit(function).trace(*arguments)
        traced_at = time.perf_counter()
        self._chose = tuple(dict.fromkeys(str(each.in_mode(mode).strategy) for each in decisions))
        self._lowered = traced.lower()
        self._trace_s = traced_at - start
        self._lower_s = time.perf_counter() - traced_at
        self._steps = steps
        self._compiled: Future[tuple[Any, float]] | None = None
        self._same: Building | None = None
        self._program: CompiledProgram | None = None
        self.operations = count_equations(traced.jaxpr)
        self.text = self._lowered.as_text()

    def start(self, compiler: Executor, same: Building | None = None) -> None:
        """Have it compiled by a thread, or take what one with the same text is compiled to."""
        self._same = same
        if same is None:
            self._compiled = compiler.submit(_compile, self._lowered)

    def expected_s(self, first: Building) -> float:
        """Return the seconds that its compiler may take, judged by those of another program."""
        return first._result()[1] / max(1, first.operations) * self.operations

    def finish(self, read: bool = True) -> CompiledProgram:
        """Return the program when it is compiled, and what its text says if that is to be read."""
        if self._program is None:
            self._program = self._finish(read)
        return self._program

    def _finish(self, read: bool) -> CompiledProgram:
        own: dict[str, Any] = {
            "trace_s": self._trace_s,
            "lower_s": self._lower_s,
            "chose": self._chose,
        }
        if self._same is not None:
            return replace(self._same.finish(read), **own)
        compiled, compile_s = self._result()
        stats = compiled.memory_analysis()
        temporary = None if stats is None else int(stats.temp_size_in_bytes)
        return CompiledProgram(
            executable=compiled,
            facts=read_facts(compiled.as_text() if read else None, self._steps),
            compile_s=compile_s,
            temp_bytes=temporary,
            call_bytes=None if temporary is None else temporary + int(stats.output_size_in_bytes),
            **own,
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
