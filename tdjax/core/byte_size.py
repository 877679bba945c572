"""Sizes of memory as people write them: `64MB`."""

from __future__ import annotations

_SCALES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SCALES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def byte_size(text: str) -> int:
    """Return the bytes above 0 that a text such as "64MB" stands for.

    Raises:
        ValueError: it is no size.

    >>> byte_size("500kB"), byte_size("1.5 GiB")
    (500000, 1610612736)
    """
    number = text.strip().rstrip("kKMGgmiIbB")
    try:
        size = int(float(number) * _SCALES.get(text.strip()[len(number) :].upper(), 0))
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise ValueError(f"{text!r} is not a size; write bytes, or 500kB, 64MB, 1GiB, ...")
    return size


def read_budget(budget: int | str | None) -> int | None:
    """Return a budget of memory in bytes, None for no limit.

    Raises:
        ValueError: it is not above 0, or no size.
    """
    try:
        size = byte_size(budget) if isinstance(budget, str) else budget
        if size is None or (not isinstance(size, bool) and size > 0):
            return size
    except (TypeError, ValueError):
        pass
    raise ValueError(
        f"memory_budget: got {budget!r}, needed bytes above 0, a number or a text such as 64MB "
        f"or 1GiB; or None for no limit."
    )
