"""Whether computing only the real steps is predicted to pay."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from tdjax.core.call import Call
from tdjax.core.mask import fraction_real
from tdjax.costs.machine import current_machine
from tdjax.costs.packed import ASSUMED, best_block, break_even, packed_s
from tdjax.costs.predict import Blocks, most_bytes
from tdjax.costs.work import Work
from tdjax.strategies.choosing.ranking import WORTH, Candidate
from tdjax.strategies.packed import Packed


@dataclasses.dataclass(frozen=True)
class PackingChoice:
    """Whether to pack the steps of a call.

    Attributes:
        candidate: the packed form, with its costs for the part that is real.
        break_even: the part of real steps below which packing is predicted to be faster than the
            best other candidate.
        part: the part that is real; None where it is not known.
        pays: whether packing is predicted to be faster by more than a prediction may be wrong by.
    """

    candidate: Candidate
    break_even: float
    part: float | None
    pays: bool

    @property
    def reason(self) -> str:
        """Sentences that say whether packing pays."""
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
    known = [each.cost(mode) for each in others if not math.isnan(each.cost(mode))]
    if not known:
        return None
    sizes = work, call.batch, call.time
    machine = current_machine()
    block = best_block(*sizes, machine)
    part = fraction_real(*call.given_mask, call.time)
    if part is None:
        part = valid_fraction
    costs = packed_s(block, *sizes, ASSUMED if part is None else part, machine)
    count = -(-call.batch * call.time // block)
    memory = most_bytes(Blocks(block, count, looped=True), work, mode != "forward")
    candidate = Candidate(Packed(chunk_size=block), *costs, memory)
    even = break_even(block, *sizes, min(known), mode, machine)
    pays = WORTH * candidate.cost(mode) <= min(known)
    return PackingChoice(candidate, even, part, pays)
