"""How long rows in blocks take, from what a row costs and what the device can do.

The time of a block is the sum of its arithmetic, its traffic at the speed of the memory that its
values fit in, the reading of weights, and a little for every operation. A gradient takes the
forward pass, and twice its arithmetic and traffic again, now with more values in use. It keeps
every value of every block until it is used, unless blocks are recomputed.
"""

from __future__ import annotations

from tdjax.costs.blocks import Blocks
from tdjax.costs.convolutions import IN_TILES, LEAST_FOR_ALL_CORES, OF_TILES, WITH_ZEROS_BETWEEN
from tdjax.costs.machine import Machine
from tdjax.costs.memory import taken_bytes
from tdjax.costs.work import Work

# How many times as much is used between two uses of a value in the gradient of an operation: it
# reads what the operation read and the gradient of what it wrote, and writes that of what it read.
_FARTHER = 1.5


def forward_s(blocks: Blocks, work: Work, machine: Machine) -> float:
    """Return the predicted seconds of a forward pass."""
    work = _forward(blocks, work, machine)
    once = blocks.count * _block_s(blocks, work, machine)
    taken = taken_bytes(blocks, work, False, blocks.has_tiles(work, machine))
    return once + _edges_s(blocks, work, machine) + machine.fresh_s(taken)


def gradient_s(blocks: Blocks, work: Work, machine: Machine) -> float:
    """Return the predicted seconds of a forward pass and the gradient of everything."""
    once = blocks.count * _block_s(blocks, work, machine, kept=True)
    back = 2 * blocks.count * _block_s(blocks, work, machine, kept=True, backward=True)
    edges = 3 * _edges_s(blocks, work, machine)
    # Every block adds its part to the gradient of the weights: two are read, one is written.
    weights = 3 * (blocks.count - 1) * work.weight_bytes / machine.bytes_s(2 * work.weight_bytes)
    taken = taken_bytes(blocks, work, True, blocks.has_tiles(work, machine))
    fresh = machine.fresh_s(taken)
    total = once + back + edges + weights + fresh
    kept = work.kept_bytes * blocks.rows
    if blocks.count > 1 and blocks.remat:  # a block keeps it for itself, for a short time
        near = machine.kept_passes * kept / machine.bytes_s(kept)
        first = _block_s(blocks, _forward(blocks, work, machine), machine)
        return total + blocks.count * (first + near)
    kept *= blocks.count
    passes = machine.stacked_passes if blocks.looped else machine.kept_passes
    return total + passes * kept / machine.bytes_s(kept)


def _forward(blocks: Blocks, work: Work, machine: Machine) -> Work:
    """Return what a row costs where nothing is kept."""
    return work.forward(blocks.rows) if machine.platform == "cpu" else work


def _is_plain(blocks: Blocks, machine: Machine) -> bool:
    """Say whether convolutions are XLA's for CPUs."""
    return blocks.plain and machine.platform == "cpu"


def seconds_in(mode: str, forward: float, gradient: float) -> float:
    """Return the seconds of a mode: "forward", "grad" with the gradient, "both" for their sum."""
    return {"forward": forward, "grad": gradient}.get(mode, forward + gradient)


def _block_s(
    blocks: Blocks, work: Work, machine: Machine, kept: bool = False, backward: bool = False
) -> float:
    """Return the seconds of a block; backward, half of those of its gradient.

    Its values are kept for a gradient, or not.
    """
    rows, tiles, plain = blocks.rows, blocks.has_tiles(work, machine), _is_plain(blocks, machine)
    moving, at_work = _moving_s(blocks, work, machine, kept, backward)
    arithmetic = (
        _product_flops(blocks, work, machine) / machine.dot_flops_s
        + _convolutions_s(blocks, work, machine, kept, backward)
        + work.transcendentals / (at_work * machine.transcendentals_s)
    )
    if plain:  # XLA for CPUs goes through these one after the other
        arithmetic += work.channel_flops / machine.naive_flops_s
        if backward:
            arithmetic += work.pooled_values / machine.pooled_values_s
    else:
        arithmetic += work.channel_flops / machine.channel_flops_s
    operations = work.operations + tiles * OF_TILES * work.tiled_convs
    fixed = operations * machine.operation_s + (machine.turn_s if blocks.looped else 0.0)
    return rows * arithmetic + moving + fixed


def _moving_s(
    blocks: Blocks, work: Work, machine: Machine, kept: bool, backward: bool
) -> tuple[float, float]:
    """Return the seconds that memory takes, and the part of the usual cores that is at work.

    Operations that write little are given one core, which written-out blocks are beside others.
    """
    rows, beside, tiles = blocks.rows, blocks.beside, blocks.has_tiles(work, machine)
    seconds = busy = 0.0
    # What XLA repeats for every row it writes out for gradients.
    live = work.live_bytes + (work.spread_bytes if kept else 0.0)
    for moved, between, weights, written in work.traffic:
        part = min(1.0, (1 + beside) * machine.part_at_work(rows * written))
        between = (rows * min(between, live) + weights) * (_FARTHER if backward else 1)
        seconds += rows * moved / (part * machine.bytes_s(between))
        busy += moved * part
    in_use = rows * live + work.weight_bytes
    in_tiles = IN_TILES * rows * work.largest_patch_bytes
    if machine.takes_tiles and not _is_plain(blocks, machine):
        in_use += in_tiles  # other forms have their images in memory again, too
    tiled_bytes = work.tiled_bytes if tiles else 0.0
    seconds += 2 * IN_TILES * rows * tiled_bytes / machine.bytes_s(in_tiles)
    found = rows * work.gathered_bytes
    seconds += found / machine.bytes_s((1 + beside) * found)
    if backward:
        # What the forward pass kept is in use with its gradient, and convolutions are turned.
        in_use += rows * (2 * work.kept_bytes + work.largest_patch_bytes)
        turned = rows * (work.patch_bytes - tiled_bytes)
        seconds += machine.patch_passes * turned / machine.bytes_s(in_use + beside * turned)
    seconds += work.weight_bytes / machine.bytes_s(in_use)
    return seconds, busy / work.moved_bytes if busy else 1.0


def _convolutions_s(
    blocks: Blocks, work: Work, machine: Machine, kept: bool, backward: bool
) -> float:
    """Return the seconds of a row's convolutions, each in the form that it has in the block."""
    plain, tiles = _is_plain(blocks, machine), blocks.has_tiles(work, machine)
    takes_apart = machine.takes_apart and not (plain or (kept and blocks.beside))
    side_by_side = machine.faster_by(1 + blocks.beside)
    back = _back(blocks, machine) if backward else 1.0
    seconds = 0.0
    for each in work.convolutions:
        longer, packing = back, 1.0
        if tiles and each.tiled:
            longer, packing = _in_tiles(blocks, work, machine, backward), IN_TILES / 9
        elif takes_apart and each.apart:
            longer *= machine.apart_conv
        elif each.narrow:
            packing = _times(machine.narrow_conv, side_by_side)
            if each.spaced and not backward:
                longer = _times(max(machine.narrow_conv, WITH_ZEROS_BETWEEN), side_by_side)
            else:
                # Others are beside it only if each has memory of its own; else they wait for each
                # other (0.9 to 1.2 times as fast, of 16 to 64 channels; Zen 4, jax 0.10).
                longer *= _times(machine.narrow_conv, side_by_side if kept else 1.0)
        seconds += longer * each.flops / machine.conv_flops_s
        seconds += packing * each.packed_values / machine.packed_values_s
        if each.naive and plain and backward:
            seconds += each.flops / machine.naive_flops_s
    if plain:  # those of one place are no products to XLA for CPUs
        places = sum(each.flops for each in work.products if each.one_place)
        seconds += back * machine.plain_product * places / machine.conv_flops_s
    return seconds


def _back(blocks: Blocks, machine: Machine) -> float:
    """Return how many times as long half of a convolution's gradient takes as its forward pass."""
    if _is_plain(blocks, machine):
        return machine.plain_conv
    return min(machine.back_conv, machine.back_conv_2d)


def _in_tiles(blocks: Blocks, work: Work, machine: Machine, backward: bool) -> float:
    """Return how many times as long as a wide one in XLA's form a convolution by tiles takes."""
    longer = machine.tiled_back if backward else machine.tiled_conv
    if blocks.rows * work.tiled_part_bytes < LEAST_FOR_ALL_CORES:  # several in one
        longer *= machine.batched_product
    return longer


def _times(longer: float, faster: float) -> float:
    """Return how many times as long as on all cores something takes that one core computes.

    Alone it takes so many times as long; beside others it is so many times as fast, but at most as
    fast as on all cores.
    """
    return max(min(1.0, longer), longer / faster)


def _product_flops(blocks: Blocks, work: Work, machine: Machine) -> float:
    """Return what a row's products of matrices take, as operations of large ones.

    Those that XLA for CPUs gives one core take as long as on all of them where blocks are written
    out, which are computed side by side.
    """
    plain, together, total = _is_plain(blocks, machine), 1 + blocks.beside, 0.0
    for flops, once, batched, one_place in work.products:
        if one_place and plain:
            continue
        longer = machine.batched_product if batched else 1.0
        if (part := machine.part_for_product(blocks.rows * once)) < 1:
            longer = max(longer, 1 / part)
        total += flops * _times(longer, machine.faster_by(together))
    return total


def _edges_s(blocks: Blocks, work: Work, machine: Machine) -> float:
    """Return the seconds for cutting the input into blocks and putting the output together."""
    together = machine.looped_passes if blocks.looped else 2 * (blocks.count > 1)
    passes = 2 * blocks.transposed + together
    moved = (work.input_bytes + work.output_bytes) * blocks.rows * blocks.count
    return passes * moved / machine.bytes_s(moved)
