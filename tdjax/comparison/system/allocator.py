"""Brings the C library's allocator to where it is in a process that has run for a while."""

from __future__ import annotations

import ctypes
import sys

_LARGEST_THRESHOLD = 32 * 2**20
_HEAD = 2**16


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
    allocate, free = library.malloc, library.free
    allocate.argtypes, allocate.restype = [ctypes.c_size_t], ctypes.c_void_p
    free.argtypes, free.restype = [ctypes.c_void_p], None
    free(allocate(_LARGEST_THRESHOLD - _HEAD))
