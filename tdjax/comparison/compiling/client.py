"""A device's compiler, in a process of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.compiling.travel import Parcel
from tdjax.comparison.system.child import Child, ChildDied, Failed, TooSlow
from tdjax.comparison.system.memory import OutOfMemory, Watch
from tdjax.comparison.targets.catalog import AbsentDevice

_WORKER = Path(__file__).with_name("worker.py")
_START_TIMEOUT = 120.0
# The process itself keeps to deadlines; this is for one that hangs.
_ANSWER_TIMEOUT = 60.0


class Closed(Exception):
    """The client was closed before the program was compiled."""


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of a program.

    Attributes:
        compile_s: seconds in the compiler; None where it was ended before it was done.
        text: the optimized program; where the compiler was ended, as it is before code is
            generated. That changes nothing that it computes or moves, and adds the estimates of
            cycles.
        temp_bytes: temporary memory that it allocates, None where that is not known.
    """

    compile_s: float | None
    text: str
    temp_bytes: int | None


class Client(AbstractContextManager["Client"]):
    """Has programs compiled for one device, in a process that is started when first needed.

    Args:
        device: what it compiles for.
        watch: ends the process before the machine runs out of memory; shared by clients whose
            processes run side by side.

    Attributes:
        start_s: seconds that the process took to start, the last time; None before.
    """

    def __init__(self, device: AbsentDevice, watch: Watch | None = None) -> None:
        self._device = device
        self._watch = watch or Watch()
        self._child: Child | None = None
        self._refusal: str | None = None
        self.start_s: float | None = None
        self._closed = False

    def __exit__(self, *exception: object) -> None:
        self.close()

    def compile(self, parcel: Parcel, deadline: float, patience: float = math.inf) -> Compiled:
        """Compile a lowered program.

        Args:
            parcel: as `travel.pack` makes it.
            deadline: seconds that the compiler may take, its start not counted.
            patience: seconds that its code is waited for, once it is optimized.

        Raises:
            TooSlow: the deadline passed, without an optimized program.
            Failed: the program was refused, or the process died, or had to be ended; the message
                is one line.
            Closed: `close` was called.
        """
        child = self._started()
        with TemporaryDirectory(prefix="tdjax-", ignore_cleanup_errors=True) as folder:
            options = self._options(folder)
            request = parcel.program, parcel.mesh, options, deadline, patience
            try:
                answer = child.ask(
                    ("compile", request),
                    deadline + _ANSWER_TIMEOUT,
                    lambda: self._watch.check(child.pid),
                )
            except OutOfMemory as error:
                raise Failed(_out_of_memory(error)) from None
            except ChildDied as error:
                if self._closed:
                    raise Closed from None
                raise Failed(f"its compiler {error}") from None
            except Failed as error:
                raise Failed(_first_line(error)) from None
        if answer is None:
            raise TooSlow
        return Compiled(*answer)

    def _options(self, folder: str) -> Mapping[str, Any] | None:
        if not self._device.compiler.optimizes_first:
            return None
        return {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}

    def close(self) -> None:
        """End the process, whatever it is doing, and start no other."""
        self._closed = True
        if self._child is not None:
            self._child.close()

    def _started(self) -> Child:
        if self._closed:
            raise Closed
        if self._refusal is not None:
            raise Failed(self._refusal)
        if self._child is not None and not self._child.ended:
            return self._child
        environment = {
            "JAX_PLATFORMS": "cpu",
            # A program from a cache has no compile time, and may have no text.
            "JAX_ENABLE_COMPILATION_CACHE": "0",
            **self._device.environment,
        }
        start = time.monotonic()
        self._child = Child(_WORKER, environment)
        try:
            self._child.ask(("choose_device", dict(self._device.topology)), _START_TIMEOUT)
        except Failed as error:
            self._refusal = _first_line(error)
            self._child.close()
            raise Failed(self._refusal) from None
        self.start_s = time.monotonic() - start
        return self._child


def _out_of_memory(error: OutOfMemory) -> str:
    return (
        f"its compiler was ended: it took {numbers.memory(error.resident)} of memory, and "
        f"{numbers.memory(error.free)} were free; a program of fewer steps, or one that loops "
        "over them instead of unrolling ('map', a chunked fold that is not unrolled), needs less"
    )


def _first_line(error: Failed) -> str:
    """Return the line that says what is wrong; compilers add pages of program to it."""
    lines = str(error).splitlines()
    return next((line.strip() for line in lines if line.strip()), "no reason given")
