"""The parts of all steps that are real in a series of workloads with masks."""

from __future__ import annotations

from typing import NamedTuple

from tdjax.core.typed import Positive


class Density(NamedTuple):
    """Which series of workloads one belongs to, and the part of its steps that is real."""

    series: str
    part: Positive

    @property
    def name(self) -> str:
        """The workload's name: "mlp, 25% real"."""
        return f"{self.series}, {percent(self.part)} real"


def percent(part: float) -> str:
    """Return a part as a person writes it: "25%", "12.5%"."""
    return f"{100 * part:.3g}%"
