"""What memory a process takes and what is left for it, so that none brings the machine down."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_LEAST_FREE = 0.05
# Of glibc's allocator: the largest threshold that it grows to, and more than a block's header.
_LARGEST_THRESHOLD = 32 * 2**20
_HEAD = 2**16
# The kernel's names in version 2 and version 1: limit, use, and cache that it can drop.
_FILES = {
    "v2": ("memory.max", "memory.current", "inactive_file"),
    "v1": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


class OutOfMemory(Exception):
    """A process was about to take memory that the machine needs.

    Args:
        resident: bytes that it took.
        free: bytes that were left.
    """

    def __init__(self, resident: int, free: int) -> None:
        super().__init__(resident, free)
        self.resident = resident
        self.free = free


def resident(pid: int) -> int | None:
    """Return the bytes of memory that a process and its copies take; None where that is unknown."""
    own = _kilobytes(_PROC / str(pid) / "status", "VmRSS")
    if own is None:
        return None
    try:
        copies = (_PROC / str(pid) / "task" / str(pid) / "children").read_text().split()
    except OSError:
        return own
    return own + sum(resident(int(copy)) or 0 for copy in copies)


def total() -> int | None:
    """Return the bytes of memory that this process and its children may take together."""
    machine = _kilobytes(_PROC / "meminfo", "MemTotal")
    limits = [limit for limit, _ in _groups()]
    return None if machine is None else min([machine, *limits])


def free() -> int | None:
    """Return the bytes of it that are free, including cache that can be dropped."""
    machine = _kilobytes(_PROC / "meminfo", "MemAvailable")
    left = [limit - used for limit, used in _groups()]
    return None if machine is None else max(0, min([machine, *left]))


class Watch:
    """Finds which of several processes to end before the machine runs out of memory.

    Safe to use from several threads, one a process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        everything = total()
        self._least = None if everything is None else int(_LEAST_FREE * everything)

    def check(self, pid: int) -> None:
        """Check a process, and include it in later checks of the others.

        Raises:
            OutOfMemory: too little is left, and no other process takes more than this one.
        """
        if self._least is None:
            return
        with self._lock:
            self._pids.add(pid)
            left = free()
            if left is None or left >= self._least:
                return
            sizes = {each: resident(each) or 0 for each in self._pids}
        own = sizes[pid]
        # Ending a small one would not help: others have the memory.
        if own == max(sizes.values()) and own > self._least:
            raise OutOfMemory(own, left)


def settle_allocator() -> None:
    """Make what a call's memory costs independent of what was measured before.

    glibc takes large blocks from the system and gives them back, page by page, at every call.
    What counts as large grows, up to 32 MiB, with the blocks that have been freed. So a
    candidate would be slower before another one has freed a large block than after it.

    References:
        mallopt(3), M_MMAP_THRESHOLD.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    allocate, free_block = library.malloc, library.free
    allocate.argtypes, allocate.restype = [ctypes.c_size_t], ctypes.c_void_p
    free_block.argtypes, free_block.restype = [ctypes.c_void_p], None
    free_block(allocate(_LARGEST_THRESHOLD - _HEAD))


def _kilobytes(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return next((1024 * int(value) for value in values), None)


def _groups() -> Iterator[tuple[int, int]]:
    """Yield limit and use of every control group that this process is in."""
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _CGROUPS / "memory" if controllers else _CGROUPS
        folder = root / path.lstrip("/")
        # In a container the path may be the host's; the root is then the container's own.
        for each in (folder, *folder.parents):
            if each.is_relative_to(root):
                yield from _group(each, _FILES["v1" if controllers else "v2"])


def _group(folder: Path, names: tuple[str, str, str]) -> Iterator[tuple[int, int]]:
    limit, use, droppable = names
    try:
        most = int((folder / limit).read_text())
        used = int((folder / use).read_text())
        cache = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # No such group, or no limit: it says "max".
        return
    yield most, used - int(cache.get(droppable, 0))
