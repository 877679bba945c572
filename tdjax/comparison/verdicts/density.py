"""One subject at several parts of real steps: the masks, and what is known of them afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tdjax.comparison.hlo import Steps


class Density(NamedTuple):
    """Which series of workloads one belongs to, and the part of its steps that is real."""

    series: str
    part: float


def check_fractions(fractions: Sequence[float]) -> list[float]:
    """Return the parts in order, each once.

    Raises:
        ValueError: there is none, or one does not lie between 0 and 1.
    """
    given = sorted(float(fraction) for fraction in fractions)
    if not given or not all(0 < fraction <= 1 for fraction in given):
        raise ValueError(
            f"valid_fractions: got {tuple(fractions)!r}, needed numbers above 0, up to 1: the "
            f"parts of all steps that are real."
        )
    return list({percent(fraction): fraction for fraction in given}.values())


def thinned(mask: Any, steps: Steps | None, part: float) -> np.ndarray:
    """Return a mask `(batch, time)` that keeps a part of all steps.

    The steps that are real anyway come first, and others are added, both in a fixed random order.

    Args:
        mask: bool `(batch, time)` of steps that are real anyway; None for none.
        steps: batch and time size.
        part: of all steps.

    Raises:
        ValueError: sizes are not known.
    """
    if steps is None:
        raise ValueError("valid_fractions: no argument shows both batch and time.")
    size = steps.batch * steps.time
    order = np.random.default_rng(0).permutation(size)
    if mask is not None:
        kept = np.asarray(mask).reshape(steps.batch, steps.time, -1).any(-1).reshape(-1)
        order = np.concatenate([order[kept[order]], order[~kept[order]]])
    real = np.zeros(size, bool)
    real[order[: round(part * size)]] = True
    return real.reshape(steps.batch, steps.time)


def density_name(series: str, part: float) -> str:
    """Return the name of a workload of a series."""
    return f"{series}, {percent(part)} real"


def percent(part: float) -> str:
    """Return a part as a person writes it: "25%", "12.5%"."""
    return f"{100 * part:.3g}%"
