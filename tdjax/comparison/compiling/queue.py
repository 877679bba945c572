"""Compiling the programs of many groups: devices side by side, programs of a device in turn."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from tdjax.comparison.compiling.client import Client, Closed
from tdjax.comparison.compiling.group import CompiledCandidate, CompiledGroup
from tdjax.comparison.system.child import Failed, TooSlow
from tdjax.comparison.system.memory import Watch
from tdjax.comparison.targets.catalog import AbsentDevice

# A compiler takes a gigabyte, and more than a core for some of its time.
_FEWEST_AT_ONCE = 2

# Where time is short, a program's code is first waited for this long, in starts of a compiler's
# process: they show how fast the machine is at the time. Programs of a few operations are done by
# then. Before the first start, it is assumed to take `_START_S`.
_PATIENCE_STARTS = 0.2
_START_S = 1.0
# While others wait, a program's code gets no more than this part of the time that is left.
_LARGEST_SHARE = 0.5

_NO_TIME = "not compiled: this comparison's time was used up"
_NO_CODE = "optimized, but its code was not generated in {}: no estimate of cycles"
_SHARE = "its share of this comparison's time"

# Called with a group, its candidate, and whether that is all that will be known of it.
Progressed = Callable[[CompiledGroup, CompiledCandidate, bool], None]
_Task = tuple[CompiledGroup, CompiledCandidate]
_Batch = list[tuple[AbsentDevice, list[_Task]]]
_Done = queue.Queue[tuple[_Task, bool] | BaseException]


def compile_groups(
    groups: Sequence[CompiledGroup],
    timeout_s: float,
    within_s: float | None,
    progressed: Progressed,
) -> None:
    """Compile every candidate that waits; those that fail or take too long keep their reason.

    Where time is limited, every program is optimized first, which takes a tenth of the whole: what
    it computes and moves is then known. In the time that is left, code is generated, and with it
    come the estimates of cycles: group by group, those of the fewest operations first.

    Args:
        groups: what to compile.
        timeout_s: the longest that one program may take.
        within_s: seconds for all of them together; None: no such limit.
        progressed: called in this thread as each candidate is optimized, and as it is done.

    Raises:
        KeyboardInterrupt: the compilers are ended; candidates that waited are left waiting.
    """
    end = math.inf if within_s is None else time.monotonic() + within_s
    batches = list(_batches(_tasks(groups)))
    for index, batch in enumerate(batches):
        now = time.monotonic()
        share = (end - now) / (len(batches) - index)
        _compile_batch(batch, timeout_s, now + share, progressed)


def _tasks(groups: Sequence[CompiledGroup]) -> dict[AbsentDevice, list[_Task]]:
    """Return what waits for each device: every reference, then every group's smallest other."""
    found: dict[AbsentDevice, list[tuple[int, int, _Task]]] = {}
    for group in groups:
        waiting = [(group, candidate) for candidate in group.candidates if candidate.waiting]
        for rank, task in enumerate(sorted(waiting, key=_order)):
            found.setdefault(group.device, []).append((rank, _size(task[1]), task))
    return {
        device: [task for *_, task in sorted(tasks, key=lambda each: each[:2])]
        for device, tasks in found.items()
    }


def _order(task: _Task) -> tuple[bool, int]:
    group, candidate = task
    return candidate.lowered.strategy != group.reference, _size(candidate)


def _size(candidate: CompiledCandidate) -> int:
    parcel = candidate.lowered.parcel
    return 0 if parcel is None else parcel.operations


def _batches(tasks: dict[AbsentDevice, list[_Task]]) -> Iterator[_Batch]:
    """Yield as many devices at a time as this machine has cores."""
    at_once = max(_FEWEST_AT_ONCE, os.cpu_count() or 1)
    everything = list(tasks.items())
    for start in range(0, len(everything), at_once):
        yield everything[start : start + at_once]


def _compile_batch(
    batch: _Batch,
    timeout_s: float,
    end: float,
    progressed: Progressed,
) -> None:
    done: _Done = queue.Queue()
    watch = Watch()
    clients = [Client(device, watch) for device, _ in batch]
    try:
        for client, (_, tasks) in zip(clients, batch, strict=True):
            arguments = (client, tasks, timeout_s, end, done)
            threading.Thread(target=_compile_all, args=arguments, daemon=True).start()
        waiting = sum(len(tasks) for _, tasks in batch)
        while waiting:
            answer = done.get()
            if isinstance(answer, BaseException):
                raise answer
            task, final = answer
            progressed(*task, final)
            waiting -= final
    finally:
        for client in clients:
            client.close()


def _compile_all(
    client: Client, tasks: Sequence[_Task], timeout_s: float, end: float, done: _Done
) -> None:
    """Compile one device's programs, in a thread, which mostly waits for a process."""
    later = []
    try:
        for task in tasks:
            patience = math.inf
            if end < math.inf:
                patience = _PATIENCE_STARTS * (client.start_s or _START_S)
            final = _compile(client, task, timeout_s, end, patience)
            if not final:
                later.append(task)
            done.put((task, final))
        later.sort(key=lambda task: (sum(map(_size, task[0].candidates)), *_order(task)))
        for index, task in enumerate(later):
            left = end - time.monotonic()
            patience = left if index == len(later) - 1 else _LARGEST_SHARE * left
            if patience > 0:
                _compile(client, task, timeout_s, end, patience)
            done.put((task, True))
    except BaseException as error:
        done.put(error)


def _compile(client: Client, task: _Task, timeout_s: float, end: float, patience: float) -> bool:
    """Compile one program; return whether this is all that can be known of it.

    Args:
        client: the compiler.
        task: the program.
        timeout_s: as in `compile_groups`.
        end: when everything should be done.
        patience: seconds that its code is waited for, once it is optimized.
    """
    group, candidate = task
    start = time.monotonic()
    left = end - start
    if left <= 0:
        candidate.drop("timeout", _NO_TIME)
        return True
    assert candidate.lowered.parcel is not None
    deadline = min(timeout_s, left)
    try:
        compiled = client.compile(candidate.lowered.parcel, deadline, patience)
    except TooSlow:
        cut = f"cut: its compiler was still running after {deadline:.3g} s"
        candidate.drop("timeout", cut if left > timeout_s else _NO_TIME)
    except Failed as error:
        candidate.drop("failed", str(error))
    except Closed:
        pass  # It still waits: an error or Ctrl-C ended the compilers.
    else:
        note = None
        if compiled.compile_s is None:
            taken = f"{time.monotonic() - start:.3g} s"
            note = _NO_CODE.format(_SHARE if patience < timeout_s else taken)
        candidate.accept(compiled, group.steps, note)
        return compiled.compile_s is not None or deadline <= patience
    return True
