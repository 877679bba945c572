"""Masks that keep a given part of all steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tdjax.comparison.hlo import Steps
from tdjax.comparison.verdicts.density import percent


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
