"""A device's compiler, in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tdjax.comparison.child import Child, ChildDied
from tdjax.comparison.compiled.catalog import Device
from tdjax.comparison.compiled.travel import Parcel

_START_TIMEOUT = 120.0


class CompileFailed(Exception):
    """The compiler refused the program, or its process died; the message is its last line."""


class Closed(Exception):
    """The client was closed before the program was compiled."""


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of a program.

    Attributes:
        compile_s: seconds in the compiler.
        text: the optimised program.
        temp_bytes: temporary memory that it allocates, None where that is not known.
    """

    compile_s: float
    text: str
    temp_bytes: int | None


class Client:
    """Has programs compiled for one device, in a process that starts when it is first needed."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._child: Child | None = None
        self._refusal: str | None = None
        self._closed = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def compile(self, parcel: Parcel, deadline: float) -> Compiled:
        """Compile a lowered program.

        Args:
            parcel: as `travel.pack` makes it.
            deadline: seconds that the compiler may take, its start not counted.

        Raises:
            TooSlow: the deadline passed; the process is ended.
            CompileFailed: the program was refused, or the process died.
            Closed: `close` was called.
        """
        try:
            answer = self._started().ask(("compile", (parcel.program, parcel.mesh)), deadline)
        except ChildDied as error:
            if self._closed:
                raise Closed from None
            raise CompileFailed(f"its compiler {error}") from None
        if answer[0] == "failed":
            raise CompileFailed(_first_line(answer[1]))
        return Compiled(*answer[1:])

    def close(self) -> None:
        """End the process, whatever it is doing; no other one is started."""
        self._closed = True
        if self._child is not None:
            self._child.close()

    def _started(self) -> Child:
        if self._closed:
            raise Closed
        if self._refusal is not None:
            raise CompileFailed(self._refusal)
        if self._child is not None and not self._child.ended:
            return self._child
        environment = {
            "JAX_PLATFORMS": "cpu",
            # A program from a cache would have compiled in no time, and need not have a text.
            "JAX_ENABLE_COMPILATION_CACHE": "0",
            **self._device.environment,
        }
        self._child = Child(Path(__file__).with_name("worker.py"), environment)
        answer = self._child.ask(("device", dict(self._device.topology)), _START_TIMEOUT)
        if answer[0] == "failed":
            self._refusal = _first_line(answer[1])
            self._child.close()
            raise CompileFailed(self._refusal)
        return self._child


def _first_line(text: str) -> str:
    """Return the line that says what is wrong; compilers add pages of program to it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
