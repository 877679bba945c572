"""Numbers in words: times, counts and bytes with a unit that suits them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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


def hundredths(value: float | None) -> str:
    """Return two decimals."""
    return UNKNOWN if value is None else f"{value:.2f}"


def trimmed(value: float) -> str:
    """Return three significant digits without trailing zeros: "1.2", "120"."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def seconds(value: float | None, written: Callable[[float], str] = digits) -> str:
    """Return a time with its unit."""
    if value is None:
        return UNKNOWN
    unit, scale = time_unit([value])
    return f"{written(value * scale)} {unit}"


def interval(low: float | None, high: float | None, scale: float = 1.0) -> str:
    """Return "1.20 - 1.35", the ends times a scale; empty where one is not known."""
    if low is None or high is None:
        return ""
    return f"{digits(low * scale)} - {digits(high * scale)}"


def half_width(value: float | None, low: float | None, high: float | None) -> str:
    """Return half the width of an interval as a part of the value; empty if not known."""
    if value is None or low is None or high is None:
        return ""
    return f"{(high - low) / 2 / value:.0%}"


def amount(value: float | None, unit: str = "", written: Callable[[float], str] = digits) -> str:
    """Return an amount with a decimal prefix and its unit: "5.70 GB/s"."""
    if value is None:
        return UNKNOWN
    for prefix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{written(value / scale)} {prefix}{unit}"
    return f"{value:.0f} {unit}".rstrip()


def count(value: float | None) -> str:
    """Return a count with a decimal prefix: "596 k"."""
    return amount(value)


def memory(value: float | None) -> str:
    """Return bytes with a decimal prefix."""
    return amount(value, "B")


def speed(value: float | None) -> str:
    """Return how many times as fast something is."""
    return UNKNOWN if value is None else f"{digits(value)}x"


def speed_interval(value: float, low: float | None, high: float | None, of: str = "") -> str:
    """Return how many times as fast something is, with its bounds: "1.90x vmap (1.60 to 2.06)"."""
    text = f"{speed(value)} {of}".rstrip()
    if low is None or high is None or low == high:
        return text
    return f"{text} ({digits(low)} to {digits(high)})"


def share(value: float) -> str:
    """Return a part as a percentage, with a decimal below 1%: "12%", "0.4%"."""
    return f"{value:.1%}" if 0 < value < 0.0095 else f"{value:.0%}"


def join(names: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
