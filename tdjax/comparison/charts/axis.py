"""An axis of a chart: its range, linear or logarithmic, its ticks and its unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TIMES = (("us", 1e-6), ("ms", 1e-3), ("s", 1.0))
MEMORY = (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12))
COUNTS = (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9))
FLOPS = (("Mflop/s", 1e6), ("Gflop/s", 1e9), ("Tflop/s", 1e12))
PURE = (("", 1.0),)

# A range this wide is easier to read in powers.
_LOG_FROM = 6.0
# A narrower range would exaggerate differences that do not matter.
_NARROWEST = 0.2
_PAD = 0.1
_MOST_TICKS = 6


@dataclass(frozen=True)
class Axis:
    """A range of values, and where its ticks are.

    Attributes:
        title: what the values are, with their unit.
        low, high: the ends.
        log: whether equal steps are equal ratios.
        ticks: values, each with what is written beside it.
    """

    title: str
    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        """Return where a value lies: 0 at the low end, 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def around(values: Sequence[float], title: str, units: Sequence[tuple[str, float]]) -> Axis:
    """Return an axis with room around these values, none of which is negative."""
    low, high = min(values), max(values)
    if low > 0 and high / low > _LOG_FROM:
        pad = (high / low) ** _PAD
        return between(low / pad, high * pad, title, units)
    span = max(high - low, _NARROWEST * high) or 1.0
    middle = (low + high) / 2
    # No value is below zero, but a point at zero needs room for its lower half.
    least = -_PAD * span if low == 0 else 0.0
    low = max(least, min(low - _PAD * span, middle - span / 2))
    high = max(high + _PAD * span, middle + span / 2)
    return _axis(low, high, False, title, units)


def between(low: float, high: float, title: str, units: Sequence[tuple[str, float]]) -> Axis:
    """Return a logarithmic axis with these ends."""
    return _axis(low, high, True, title, units)


def up_to(high: float, title: str, units: Sequence[tuple[str, float]]) -> Axis:
    """Return an axis from zero to this end."""
    return _axis(0.0, high, False, title, units)


def _axis(
    low: float, high: float, log: bool, title: str, units: Sequence[tuple[str, float]]
) -> Axis:
    typical = math.sqrt(low * high) if log else high
    unit, scale = next((u for u in reversed(units) if u[1] <= typical * 1.001), units[0])
    values = _powers(low, high) if log else _steps(low, high)
    ticks = tuple((value, f"{value / scale:.6g}") for value in values)
    return Axis(f"{title}, {unit}" if unit else title, low, high, log, ticks)


def _steps(low: float, high: float) -> list[float]:
    """Return round values at equal distances, as many as fit."""
    power = 10.0 ** math.floor(math.log10((high - low) / _MOST_TICKS))
    step = next(s * power for s in (1, 2, 5, 10) if (high - low) / (s * power) <= _MOST_TICKS)
    first = max(0, math.ceil(low / step - 1e-9))
    return [place * step for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Return 1, 2, 5, 10, ..., with fewer values a decade, or fewer decades, until they fit."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits, stride in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 3)):
        found = [
            digit * 10.0**power
            for power in range(first, last + 1)
            if power % stride == 0
            for digit in digits
            if low <= digit * 10.0**power <= high
        ]
        if len(found) <= _MOST_TICKS:
            break
    return found
