"""Numbers in words: times, counts and bytes with a unit that suits them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

UNKNOWN = "-"


def time_unit(seconds: Iterable[float | None]) -> tuple[str, float]:
    """Return the unit that suits these times, and how many of it a second has."""
    largest = max((value for value in seconds if value is not None), default=1.0)
    for unit, scale in (("s", 1.0), ("ms", 1e3)):
        if largest * scale >= 1:
            return unit, scale
    return "us", 1e6


def digits(value: float) -> str:
    """Return three significant digits, without an exponent."""
    for decimals, end in ((2, 10), (1, 100)):
        if round(value, decimals) < end:
            return f"{value:.{decimals}f}"
    return f"{value:.0f}"


def seconds(value: float | None) -> str:
    """Return a time with its unit."""
    if value is None:
        return UNKNOWN
    unit, scale = time_unit([value])
    return f"{digits(value * scale)} {unit}"


def count(value: float) -> str:
    """Return a count with a decimal prefix: "596 k"."""
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{digits(value / scale)} {prefix}"
    return f"{value:.0f}"


def join(names: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]


def memory(value: int | None) -> str:
    """Return bytes with a decimal unit."""
    if value is None:
        return UNKNOWN
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{digits(value / scale)} {unit}"
    return f"{value} B"


def speed(value: float | None) -> str:
    """Return how many times as fast something is."""
    return UNKNOWN if value is None else f"{digits(value)}x"
