"""Is a rival behind the leader, level with it, or can the samples not tell yet?

There is one border, a lead of 5%: an interval beyond it is a win, and an estimate within it, with a
narrow enough interval, a tie. Between the two, more rounds decide, not chance.
"""

from __future__ import annotations

from collections.abc import Sequence

from tdjax.comparison.verdicts.intervals import paired_ratio

WIN_MARGIN = 1.05
TIE_WIDTH = 1.08
MIN_ROUNDS = 5
CLEAR_WITH_FEW_ROUNDS = 1.5

BEHIND, LEVEL, UNCLEAR = "behind", "level", "unclear"


def standing(rival: Sequence[float], leader: Sequence[float]) -> str:
    """Return whether the rival is "behind" the leader or "level" with it, or "unclear".

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
    narrow = ratio.high < TIE_WIDTH and ratio.low > 1 / TIE_WIDTH
    if narrow and 1 / WIN_MARGIN <= ratio.value <= WIN_MARGIN:
        return LEVEL
    return UNCLEAR


def _lasting(rival: Sequence[float], leader: Sequence[float], rounds: int) -> bool:
    """Whether the lead is there in the first half of the rounds and in the second.

    A machine that is busy for a while can make a lead that an interval accepts: its resampling
    ignores the order of the rounds.
    """
    half = rounds // 2
    halves = ((rival[:half], leader[:half]), (rival[half:rounds], leader[half:rounds]))
    return all(paired_ratio(*pair).value > WIN_MARGIN for pair in halves)
