"""How a number or a name is shown to a person, the same in tables, plots and reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tdjax.comparison.entry import Entry

if TYPE_CHECKING:
    from tdjax.comparison.verdict import Verdict

MODE_TITLES = {"forward": "forward", "grad": "forward + gradient"}
UNKNOWN = "-"


def short(strategy: str) -> str:
    """Return a strategy's name without what can be left out: `Fold(32, unroll)`."""
    return strategy.replace("chunk_size=", "").replace("=True", "")


def named(entry: Entry) -> str:
    """Return the strategy's short name, with what `auto` took."""
    name = short(entry.strategy)
    return name if entry.chose is None else f"{name}: {short(entry.chose)}"


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


def agreement(entry: Entry) -> str:
    """Return how far the answer is from the reference's."""
    if entry.max_rel_error is None:
        return UNKNOWN
    return "exact" if entry.max_rel_error == 0 else f"{entry.max_rel_error:.0e}"


def fastest(verdict: Verdict) -> str:
    """Return the leader and those that cannot be told from it, three of them at most."""
    names = [verdict.leader, *verdict.tied] if verdict.leader else []
    shown = [short(name) for name in names[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def reason(entry: Entry) -> str:
    """Return why less is known of the entry than of the others."""
    if entry.error is None:
        return ""
    return f"failed: {entry.error}" if entry.status == "failed" else entry.error
