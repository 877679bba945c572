"""How much memory this machine, or the container that this process is in, has left."""

from __future__ import annotations

from pathlib import Path

_MACHINE = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Return the bytes that can still be taken, None where that is not known.

    The kernel ends a process that takes more.
    """
    return min((left for left in (_machine(), _container()) if left is not None), default=None)


def _machine() -> int | None:
    try:
        lines = _MACHINE.read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):  # Not Linux.
        return None


def _container() -> int | None:
    """Return what the limit of a container (cgroup v2) leaves; its file caches can be dropped."""
    try:
        limit = int((_CONTAINER / "memory.max").read_text())  # "max" where there is none
        used = int((_CONTAINER / "memory.current").read_text())
        stats = (_CONTAINER / "memory.stat").read_text().splitlines()
        cached = next(int(line.split()[1]) for line in stats if line.startswith("inactive_file "))
        return max(0, limit - used + cached)
    except (OSError, StopIteration, ValueError, IndexError):
        return None
