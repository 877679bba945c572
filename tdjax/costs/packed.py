"""How long packed steps are predicted to take, and up to which part of real steps they pay."""

from __future__ import annotations

from tdjax.costs.machine import Machine
from tdjax.costs.predict import Blocks, forward_s, gradient_s, seconds_in
from tdjax.costs.work import Work

ASSUMED = 0.75
"""The part of all steps that is assumed to be real where it is not known."""

# The last rows are computed in blocks of one step's rows if a block has at most this many of those.
_SMALLEST = 16
# The largest number of blocks that is tried.
_MOST_BLOCKS = 64
# Predicted times within this factor of the best count as equally good.
_NEARLY = 1.05
# Small blocks may spend this part of the time of their arithmetic on reading weights and starting
# operations.
_BESIDE = 0.25


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


def best_block(work: Work, batch: int, time: int, machine: Machine) -> int:
    """Return how many rows at once are predicted to be fastest where 25% to 100% of steps are real.

    Sizes from all rows down to a 64th of them are tried, each half of the one before. Of those that
    are nearly as fast as the best the largest is taken, for what the prediction does not know: it
    sums up gradients of weights less often, and its convolutions contract over more rows.
    """
    rows = batch * time
    counts = [2**power for power in range(_MOST_BLOCKS.bit_length())]
    blocks = sorted({-(-rows // count) for count in counts}, reverse=True)

    def cost(block: int) -> float:
        each = (packed_s(block, work, batch, time, part, machine) for part in (0.25, 0.5, 1.0))
        return sum(forward + gradient for forward, gradient in each)

    costs = {block: cost(block) for block in blocks}
    least = min(costs.values())
    return next(block for block in blocks if costs[block] <= _NEARLY * least)


def packed_s(
    block: int, work: Work, batch: int, time: int, part: float, machine: Machine
) -> tuple[float, float]:
    """Return the predicted seconds of a forward pass, and of one with the gradient.

    Args:
        block: rows at once.
        work: what a row costs.
        batch: rows of a step.
        time: steps.
        part: the part of all steps that is real.
        machine: where it runs.
    """
    rows = batch * time
    filled = part * rows
    if block < rows:
        # The last block is half full on average; in smaller ones, half of one of these is lost.
        filled += 0.5 * (batch if has_small_blocks(block, work, batch, machine) else block)
    count = max(1.0, min(filled, float(-(-rows // block) * block)) / block)
    blocks = Blocks(block, count, looped=True)  # type: ignore[arg-type]  # a part of a block
    # Outputs of all steps are set to zero first, and so are gradients of inputs.
    zeros = work.output_bytes * rows / machine.bytes_s(work.output_bytes * rows)
    input_zeros = work.input_bytes * rows / machine.bytes_s(work.input_bytes * rows)
    forward = forward_s(blocks, work, machine) + zeros
    return forward, gradient_s(blocks, work, machine) + zeros + input_zeros


def break_even(
    block: int, work: Work, batch: int, time: int, rival_s: float, mode: str, machine: Machine
) -> float:
    """Return the part of real steps below which packed steps are predicted to be faster.

    Args:
        rival_s: what the best other strategy is predicted to take, in this mode.
        mode: "forward", "grad" for one with its gradient, or "both" for the sum of these.
    """

    def cost(part: float) -> float:
        return seconds_in(mode, *packed_s(block, work, batch, time, part, machine))

    low, high = 0.0, 1.0
    if cost(high) <= rival_s:
        return 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= rival_s else (low, middle)
    return low
