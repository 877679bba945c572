"""Whether computing only the real steps is predicted to pay."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

from tdjax.core.call import Call
from tdjax.core.mask import fraction_real
from tdjax.costs.machine import Machine, current_machine
from tdjax.costs.packed import (
    ASSUMED,
    Packs,
    best_packs,
    break_even,
    packed_bytes,
    packed_s,
    surely_saved,
)
from tdjax.costs.predict import forward_s, gradient_s, seconds_in
from tdjax.costs.work import Work
from tdjax.strategies.base import Strategy
from tdjax.strategies.choosing.ranking import Candidate
from tdjax.strategies.packed import Packed

# How many times faster than the best other candidate packing must be predicted to be.
_WORTH = 1.1


@dataclasses.dataclass(frozen=True)
class PackingChoice:
    """Whether to pack the steps of a call.

    Attributes:
        candidate: the packed form, with its costs for the part that is real.
        break_even: the part of real steps below which packing is predicted to pay; on a GPU or TPU
            that is all of those that the largest program holds which pays.
        part: the part that is real; None where it is not known.
        pays: whether packing is predicted to be faster than the best other candidate, by more than
            a prediction may be wrong by.
    """

    candidate: Candidate
    break_even: float
    part: float | None
    pays: bool

    @property
    def reason(self) -> str:
        """Sentences that say whether packing pays."""
        if not self.break_even:
            return "Packing is predicted to pay for no part of real steps."
        text = f"Packing is predicted to pay where less than {self.break_even:.0%} of steps are "
        if self.part is not None:
            return f"{text}real; {self.part:.0%} of these are."
        return (
            f"{text}real; how many of these are is not known, and {ASSUMED:.0%} is assumed "
            f"(tdjax.Auto(valid_fraction=...) sets it)."
        )


def packing_choice(
    call: Call,
    work: Work,
    others: Sequence[Candidate],
    mode: str,
    valid_fraction: float | None,
) -> PackingChoice | None:
    """Return whether packing pays; None where steps cannot be packed, or nothing is predicted.

    Args:
        call: a call with a mask, traced.
        work: what a row costs.
        others: what may run instead, with predicted costs.
        mode: "forward", "grad" for one with its gradient, or "both" for the sum of these.
        valid_fraction: the part of steps that is real, where the values of the mask are not known.
    """
    if call.masked_output == "keep":
        return None
    machine, batch, time = current_machine(), call.batch, call.time
    predicted = tuple(each.strategy for each in others if not math.isnan(each.cost(mode)))
    if not predicted:
        return None
    packs, most, even = _packs(work, predicted, batch, time, mode, machine)
    sure = surely_saved(work, machine)
    part = fraction_real(*call.given_mask, call.time)
    if part is None:
        part = valid_fraction
    assumed = ASSUMED if part is None else part
    costs = packed_s(packs, work, batch, time, assumed, machine)
    memory = packed_bytes(packs, work, batch, time, mode != "forward")
    strategy = Packed() if packs.at_once else Packed(chunk_size=packs.rows)
    pays = seconds_in(mode, *packed_s(packs, sure, batch, time, assumed, machine)) <= most
    return PackingChoice(Candidate(strategy, *costs, memory), even, part, pays)


@functools.lru_cache(256)  # a call outside of jit decides every time, for another mask
def _packs(
    work: Work, others: tuple[Strategy, ...], batch: int, time: int, mode: str, machine: Machine
) -> tuple[Packs, float, float]:
    """Return how rows are packed best, what that may take to pay, and up to which part it does."""
    sure = surely_saved(work, machine)
    known = []
    for strategy in others:
        blocks = strategy.blocks(batch, time)
        assert blocks is not None  # it has been predicted
        costs = forward_s(blocks, sure, machine), gradient_s(blocks, sure, machine)
        known.append(seconds_in(mode, *costs))
    packs, most = best_packs(work, batch, time, machine), min(known) / _WORTH
    return packs, most, break_even(packs, sure, batch, time, most, mode, machine)
