"""Is a rival behind the leader, level with it, or can the samples not tell yet?

A lead counts from 5%: where code and arrays happen to lie in memory changes the time of one and
the same program by a few percent from process to process, and no number of samples within one
process shows that.

References:
    T. Mytkowicz, A. Diwan, M. Hauswirth and P. Sweeney, Producing Wrong Data Without Doing
    Anything Obviously Wrong!, ASPLOS 2009.
"""

from __future__ import annotations

from collections.abc import Sequence

from tdjax.comparison.intervals import paired_ratio

WIN_MARGIN = 1.05
TIE_WIDTH = 1.10
MIN_ROUNDS = 5
CLEAR_WITH_FEW_ROUNDS = 1.5

BEHIND, LEVEL, UNCLEAR = "behind", "level", "unclear"


def standing(rival: Sequence[float], leader: Sequence[float]) -> str:
    """Return whether the rival is "behind" the leader, "level" with it, or that is "unclear".

    Args:
        rival: its samples; sample i of both was taken in round i.
        leader: the leader's.
    """
    ratio = paired_ratio(rival, leader)
    if ratio.low is None or ratio.high is None:
        return UNCLEAR
    rounds = min(len(rival), len(leader))
    if rounds < MIN_ROUNDS:
        return BEHIND if ratio.low > CLEAR_WITH_FEW_ROUNDS else UNCLEAR
    if ratio.low > WIN_MARGIN and _lasting(rival, leader, rounds):
        return BEHIND
    if ratio.high < TIE_WIDTH and ratio.low > 1 / TIE_WIDTH:
        return LEVEL
    return UNCLEAR


def _lasting(rival: Sequence[float], leader: Sequence[float], rounds: int) -> bool:
    """Whether the lead is there in the first half of the rounds and in the second.

    A machine that is busy for a while can make a lead that an interval takes for real: its
    resampling knows of no time.
    """
    half = rounds // 2
    halves = ((rival[:half], leader[:half]), (rival[half:rounds], leader[half:rounds]))
    return all(paired_ratio(*pair).value > WIN_MARGIN for pair in halves)
