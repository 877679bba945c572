"""What memory a process takes and what is left for it, so that none takes the machine down."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_LEAST_FREE = 0.05
# The kernel's names in version 2 and version 1: limit, use, and cache that it can drop.
_FILES = {
    "v2": ("memory.max", "memory.current", "inactive_file"),
    "v1": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


class OutOfMemory(Exception):
    """A process was about to take the memory that the machine needs.

    Args:
        resident: bytes that it took.
        free: bytes that were left.
    """

    def __init__(self, resident: int, free: int) -> None:
        super().__init__(resident, free)
        self.resident = resident
        self.free = free


def resident(pid: int) -> int | None:
    """Return the bytes of memory that a process and its copies take; None where none says."""
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
    """Return the bytes that are left of it, cache that can be dropped among them."""
    machine = _kilobytes(_PROC / "meminfo", "MemAvailable")
    left = [limit - used for limit, used in _groups()]
    return None if machine is None else max(0, min([machine, *left]))


class Watch:
    """Finds, of several processes, the one to end before the machine runs out of memory.

    Safe to use from several threads, one a process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        everything = total()
        self._least = None if everything is None else int(_LEAST_FREE * everything)

    def check(self, pid: int) -> None:
        """Look at a process, and from now on at it whenever another one is looked at.

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
        # Ending a small one would help nobody: the memory went elsewhere.
        if own == max(sizes.values()) and own > self._least:
            raise OutOfMemory(own, left)


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
