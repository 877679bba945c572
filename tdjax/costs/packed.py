"""How long packed steps are predicted to take, and up to which part of real steps they pay."""

from __future__ import annotations

import dataclasses

from tdjax.costs.blocks import Blocks
from tdjax.costs.machine import Machine
from tdjax.costs.memory import most_bytes
from tdjax.costs.predict import forward_s, gradient_s, seconds_in
from tdjax.costs.traffic import Traffic
from tdjax.costs.work import Work

ASSUMED = 0.75
"""The part of all steps that is assumed to be real where it is not known."""

# The last rows are computed in blocks of one step's rows if a block has at most this many of those.
_SMALLEST = 16
# The largest number of blocks that is tried.
_MOST_BLOCKS = 64
# Predicted times within this factor of the best count as equally good.
_NEARLY = 1.05
# Blocks that are computed at once have so many parts of all rows.
_QUARTERS = 4
# A number of them is worth a program that takes at most this part of the next larger one's time.
_WORTH_A_PROGRAM = 0.9
# Parts of real steps that are tried; where quarters are computed at once, the middle of each.
_PARTS = (0.25, 0.5, 1.0)
_PARTS_OF_QUARTERS = (0.125, 0.375, 0.625, 0.875)
# Small blocks may spend this part of the time of their arithmetic on reading weights and starting
# operations.
_BESIDE = 0.25


@dataclasses.dataclass(frozen=True)
class Packs:
    """How real rows are computed: in blocks one after the other, or all at once.

    Attributes:
        rows: of a block.
        at_once: how many blocks are computed side by side, by a program for each of these numbers;
            empty where a loop runs them.
    """

    rows: int
    at_once: tuple[int, ...] = ()


def has_small_blocks(block: int, work: Work, batch: int, machine: Machine) -> bool:
    """Say whether rows that do not fill a block should be computed in blocks of one step's rows.

    They should if such a block does not spend much of its time on reading weights and on starting
    operations, which takes longest on a GPU.
    """
    if not 2 * batch <= block <= _SMALLEST * batch:
        return False
    arithmetic = work.dot_flops / machine.dot_flops_s + work.conv_flops / machine.conv_flops_s
    reading = work.weight_bytes / machine.bytes_s(work.weight_bytes)
    starting = work.operations * machine.operation_s + machine.turn_s
    return reading + starting <= _BESIDE * batch * arithmetic


def best_packs(work: Work, batch: int, time: int, machine: Machine) -> Packs:
    """Return what is predicted to be fastest where 25% to 100% of steps are real.

    Blocks from all rows down to a 64th of them are tried, each half of the one before. Of those
    that are nearly as fast as the best the largest is taken, for what the prediction does not know:
    it sums up gradients of weights less often, and its convolutions contract over more rows.

    A device without caches that a block could fit is kept busy by many rows alone, and waits for
    the host after every turn of a loop: there the rows that are real are computed at once, in a
    program of a quarter, a half, three quarters or all of them, unless a loop is predicted to lose
    less by its turns than that by rounding up.
    """
    rows = batch * time
    counts = [2**power for power in range(_MOST_BLOCKS.bit_length())]
    blocks = sorted({-(-rows // count) for count in counts}, reverse=True)
    parts = _PARTS if machine.near_bytes else _PARTS_OF_QUARTERS

    def cost(packs: Packs) -> float:
        return sum(sum(packed_s(packs, work, batch, time, part, machine)) for part in parts)

    costs = {packs: cost(packs) for packs in map(Packs, blocks)}
    least = min(costs.values())
    loop = next(packs for packs in costs if costs[packs] <= _NEARLY * least)
    if machine.near_bytes:
        return loop
    quarters = _quarters(work, batch, time, machine)
    return quarters if cost(quarters) <= _NEARLY * least else loop


def _quarters(work: Work, batch: int, time: int, machine: Machine) -> Packs:
    """Return blocks of a quarter of the rows, and the numbers of them that are worth a program.

    A number is if its program is clearly faster than the next larger one, which it is not as long
    as its rows do not keep the device busy.
    """

    def cost(count: int) -> float:
        blocks = Blocks(count * rows, 1, looped=True)
        return forward_s(blocks, work, machine) + gradient_s(blocks, work, machine)

    rows = -(-batch * time // _QUARTERS)
    found = [_QUARTERS]
    for count in range(_QUARTERS - 1, 0, -1):
        if cost(count) <= _WORTH_A_PROGRAM * cost(found[0]):
            found.insert(0, count)
    return Packs(rows, tuple(found))


def packed_s(
    packs: Packs, work: Work, batch: int, time: int, part: float, machine: Machine
) -> tuple[float, float]:
    """Return the predicted seconds of a forward pass, and of one with the gradient.

    Args:
        packs: how they are computed.
        work: what a row costs.
        batch: rows of a step.
        time: steps.
        part: the part of all steps that is real.
        machine: where it runs.
    """
    rows, block = batch * time, packs.rows
    filled = part * rows
    if packs.at_once:
        most = [count * block for count in packs.at_once]
        blocks = Blocks(next((m for m in most if filled <= m), most[-1]), 1, looped=True)
    else:
        if block < rows:
            # The last block is half full on average; in smaller ones, half of one of these is lost.
            filled += 0.5 * (batch if has_small_blocks(block, work, batch, machine) else block)
        turns = max(1.0, min(filled, float(-(-rows // block) * block)) / block)
        blocks = Blocks(block, turns, looped=True)  # type: ignore[arg-type]  # a part of a block
    # Outputs of all steps are set to zero first, and so are gradients of inputs.
    zeros = work.output_bytes * rows / machine.bytes_s(work.output_bytes * rows)
    input_zeros = work.input_bytes * rows / machine.bytes_s(work.input_bytes * rows)
    forward = forward_s(blocks, work, machine) + zeros
    return forward, gradient_s(blocks, work, machine) + zeros + input_zeros


def surely_saved(work: Work, machine: Machine) -> Work:
    """Return what of a row's costs is surely not spent on a row that is left out.

    XLA for a GPU or TPU fuses reductions and what lies between them, of which the prediction does
    not know how far: four layer norms are one pass over memory there. But putting the real rows in
    front takes passes of its own.
    """
    if machine.near_bytes:
        return work
    least = work.stored_bytes + work.input_bytes + work.output_bytes
    least = min(work.moved_bytes, least)
    together = Traffic(least, work.live_bytes, work.weight_bytes, work.output_bytes)
    return dataclasses.replace(work, traffic=(together,))


def packed_bytes(packs: Packs, work: Work, batch: int, time: int, gradient: bool) -> float:
    """Return temporary memory that the compiled program does not exceed."""
    count = -(-batch * time // packs.rows)
    if packs.at_once:
        return most_bytes(Blocks(packs.rows * count, 1, looped=True), work, gradient)
    return most_bytes(Blocks(packs.rows, count, looped=True), work, gradient)


def break_even(
    packs: Packs, work: Work, batch: int, time: int, most_s: float, mode: str, machine: Machine
) -> float:
    """Return the part of real steps up to which packed steps are predicted to take at most so long.

    Args:
        most_s: the seconds, in this mode.
        mode: "forward", "grad" for one with its gradient, or "both" for the sum of these.
    """

    def cost(part: float) -> float:
        return seconds_in(mode, *packed_s(packs, work, batch, time, part, machine))

    low, high = 0.0, 1.0
    if cost(high) <= most_s:
        return 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= most_s else (low, middle)
    return low
