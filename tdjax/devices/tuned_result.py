"""What tuning measured of a program on a device: the record that files of results hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

from tdjax.core.typed import Count, Needed, Positive, Size, one_of

Bounds = tuple[float, float, float]
_Key = TypeVar("_Key")
_ROUNDED = 1 + 1e-9


@dataclasses.dataclass(frozen=True)
class TunedCandidate:
    """What was measured of one strategy.

    Attributes:
        strategy: its name.
        kind, options: what it is made of again.
        status, error: as in an `Entry`.
        median_s: the median time of a call.
        low, high: the 95% interval of its time, paired with the fastest one's round by round, as
            parts of the median; it reaches down to the fastest one's time if that is not clearly
            ahead. None where it did not run to the end.
        samples_s: the raw samples.
        temp_bytes: temporary memory that its program takes.
    """

    strategy: str
    kind: str
    options: Mapping[str, str | int | float | bool | None]
    status: Annotated[str, one_of("ok", "failed", "timeout")]
    error: str | None = None
    median_s: Positive | None = None
    low: Positive | None = None
    high: Positive | None = None
    samples_s: tuple[Positive, ...] = ()
    temp_bytes: Count | None = None

    def __post_init__(self) -> None:
        if self.status == "ok" and None in (self.median_s, self.low, self.high):
            raise ValueError("it ran to the end, and its time or its interval is not known")

    @property
    def bounds_s(self) -> Bounds:
        """Its median in seconds, and its interval, if it ran to the end."""
        assert self.median_s is not None and self.low is not None and self.high is not None
        return self.median_s, self.low * self.median_s, self.high * self.median_s


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What was measured of one program in one mode.

    Attributes:
        program: the program, its sizes and the device, hashed.
        mode: "forward", or "grad" for forward and gradient.
        title: the name of the workload or the function.
        sizes: its batch and time size.
        device: the kind of device.
        versions: of jax, jaxlib and this record.
        date: when it was measured.
        candidates: one a strategy.
    """

    program: Annotated[str, Needed("letters and digits", str.isalnum)]  # It names a file.
    mode: Annotated[str, one_of("forward", "grad")]
    title: str
    sizes: tuple[Size, Size]
    device: str
    versions: Mapping[str, str]
    date: str
    candidates: tuple[TunedCandidate, ...]

    @property
    def times(self) -> dict[str, float]:
        """The median of each strategy that ran to the end, in seconds."""
        return {strategy: median for strategy, (median, *_) in self.bounds_s.items()}

    @property
    def bounds_s(self) -> dict[str, Bounds]:
        """Median and interval of each strategy that ran to the end, in seconds."""
        return {each.strategy: each.bounds_s for each in self.candidates if each.status == "ok"}


def added(bounds: Sequence[Bounds]) -> Bounds:
    """Return the sum of several times, such as those of a program's modes."""
    medians, lows, highs = zip(*bounds, strict=True)
    return sum(medians), sum(lows), sum(highs)


def level(bounds: Mapping[_Key, Bounds]) -> tuple[_Key, ...]:
    """Return what cannot be told from the fastest by its interval, the fastest first."""
    ordered = sorted(bounds, key=bounds.__getitem__)
    return tuple(key for key in ordered if bounds[key][1] <= _ROUNDED * bounds[ordered[0]][2])
