"""Compiling the programs of many groups: devices side by side, each one's programs in turn."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from tdjax.comparison.child import TooSlow
from tdjax.comparison.compiled.catalog import Device
from tdjax.comparison.compiled.client import Client, Closed, CompileFailed
from tdjax.comparison.compiled.group import CompiledCandidate, CompiledGroup
from tdjax.comparison.memory import Watch

# A compiler takes a gigabyte, and more than a core for some of its time.
_FEWEST_AT_ONCE = 2

# What it takes to optimise a program in a new process, in starts of that process, which show how
# fast the machine is at the time; and what a start takes as long as there was none.
_RESERVE_STARTS = 3.0
_RESERVE_STARTS_PER_OPERATION = 3e-3
_START_S = 0.4
# Code is waited for at least for as long as ending the process for it would cost; with time to
# spare, a few times as long. Beside the reference, one program gets no more than this part of it.
_LEAST_PATIENCE_STARTS = 1.5
_LEAST_PATIENCE_S = 4.0
_REFERENCE_PATIENCE_S = 16.0
_MOST_OF_SPARE = 0.2

_NO_TIME = "not compiled: this comparison's time was used up"
_NO_CODE = "optimised, but its code was not generated in {:.3g} s{}: no estimate of cycles"
_SHARE = ", its share of this comparison's time"

Finished = Callable[[CompiledGroup, CompiledCandidate], None]
_Task = tuple[CompiledGroup, CompiledCandidate]
_Done = queue.Queue[_Task | BaseException]


def compile_groups(
    groups: Sequence[CompiledGroup],
    timeout_s: float,
    within_s: float | None,
    finished: Finished,
) -> None:
    """Compile every candidate that waits; those that fail or take too long keep their reason.

    Every group's reference comes first, then every group's smallest other program, and so on.
    Time is kept back to optimise all those that follow, which takes a tenth of what generating
    their code takes: where a limit of time is too short for all, large programs, unrolled over
    all steps as a rule, have no estimate of cycles, and what they compute and move is known.

    Args:
        groups: what to compile.
        timeout_s: the longest that one program may take.
        within_s: seconds for all of them together; None: no such limit.
        finished: called in this thread as each candidate is done.

    Raises:
        KeyboardInterrupt: the compilers are ended; candidates that waited are left waiting.
    """
    end = math.inf if within_s is None else time.monotonic() + within_s
    batches = list(_batches(_tasks(groups)))
    for index, batch in enumerate(batches):
        now = time.monotonic()
        share = (end - now) / (len(batches) - index)
        _compile_batch(batch, timeout_s, now + share, finished)


def _tasks(groups: Sequence[CompiledGroup]) -> dict[Device, list[_Task]]:
    found: dict[Device, list[tuple[int, int, _Task]]] = {}
    for group in groups:
        waiting = [candidate for candidate in group.candidates if candidate.waiting]
        waiting.sort(key=lambda each: (each.lowered.strategy != group.reference, _size(each)))
        for place, candidate in enumerate(waiting):
            task = place, _size(candidate), (group, candidate)
            found.setdefault(group.device, []).append(task)
    return {
        device: [task for *_, task in sorted(tasks, key=lambda each: each[:2])]
        for device, tasks in found.items()
    }


def _size(candidate: CompiledCandidate) -> int:
    parcel = candidate.lowered.parcel
    return 0 if parcel is None else parcel.operations


def _batches(tasks: dict[Device, list[_Task]]) -> Iterator[list[tuple[Device, list[_Task]]]]:
    """Yield as many devices at a time as this machine has cores."""
    at_once = max(_FEWEST_AT_ONCE, os.cpu_count() or 1)
    everything = list(tasks.items())
    for start in range(0, len(everything), at_once):
        yield everything[start : start + at_once]


def _compile_batch(
    batch: Sequence[tuple[Device, list[_Task]]], timeout_s: float, end: float, finished: Finished
) -> None:
    done: _Done = queue.Queue()
    watch = Watch()
    clients = [Client(device, watch) for device, _ in batch]
    try:
        for client, (_, tasks) in zip(clients, batch, strict=True):
            arguments = (client, tasks, timeout_s, end, done)
            threading.Thread(target=_work, args=arguments, daemon=True).start()
        for _ in range(sum(len(tasks) for _, tasks in batch)):
            answer = done.get()
            if isinstance(answer, BaseException):
                raise answer
            finished(*answer)
    finally:
        for client in clients:
            client.close()


def _work(
    client: Client, tasks: Sequence[_Task], timeout_s: float, end: float, done: _Done
) -> None:
    """Compile one device's programs, in a thread: it waits for a process most of the time."""
    to_come = [_starts(candidate) for _, candidate in tasks]
    try:
        for index, (group, candidate) in enumerate(tasks):
            start_s = client.start_s or _START_S
            keep = start_s * sum(to_come[index + 1 :])
            _compile(
                client, group, candidate, timeout_s, end, keep, start_s * _LEAST_PATIENCE_STARTS
            )
            done.put((group, candidate))
    except BaseException as error:
        done.put(error)


def _starts(candidate: CompiledCandidate) -> float:
    """Return the starts of a process whose time to keep back for a program still to come."""
    return _RESERVE_STARTS + _RESERVE_STARTS_PER_OPERATION * _size(candidate)


def _patience(spare: float, least: float, is_reference: bool) -> float:
    """Return how long to wait for a program's code, of the seconds that no other one needs.

    Every ratio is to a reference's figure: its code is waited for longest.
    """
    if is_reference:
        return max(_REFERENCE_PATIENCE_S, spare)
    return least if spare <= 0 else max(_LEAST_PATIENCE_S, _MOST_OF_SPARE * spare)


def _compile(
    client: Client,
    group: CompiledGroup,
    candidate: CompiledCandidate,
    timeout_s: float,
    end: float,
    keep: float,
    least: float,
) -> None:
    """Compile one program.

    Args:
        client, group, candidate, timeout_s: as `compile_groups` has them.
        end: when everything should be done.
        keep: seconds to leave for the programs that follow.
        least: seconds before which ending the process would cost more than it saves.
    """
    start = time.monotonic()
    left = end - start
    if left <= 0:
        candidate.drop("timeout", _NO_TIME)
        return
    assert candidate.lowered.parcel is not None
    deadline = min(timeout_s, left)
    patience = _patience(left - keep, least, candidate.lowered.strategy == group.reference)
    try:
        compiled = client.compile(candidate.lowered.parcel, deadline, patience)
    except TooSlow:
        cut = f"cut: its compiler was still running after {deadline:.3g} s"
        candidate.drop("timeout", cut if left > timeout_s else _NO_TIME)
    except CompileFailed as error:
        candidate.drop("failed", str(error))
    except Closed:
        return  # It still waits: whoever closed the compiler says why.
    else:
        note = None
        if compiled.compile_s is None:
            share = _SHARE if patience < timeout_s else ""
            note = _NO_CODE.format(time.monotonic() - start, share)
        candidate.accept(compiled, group.steps, note)
