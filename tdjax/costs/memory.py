"""How much memory a pass takes beside its arguments and results."""

from __future__ import annotations

from tdjax.costs.blocks import Blocks
from tdjax.costs.convolutions import IN_TILES
from tdjax.costs.work import Work

# Bytes of indices that XLA has for every value that windows look at, where it pulls pooling back:
# 2 to 9.2 were measured (jax 0.10 and 0.12), of windows of 4 to 25 places along two or three axes.
_OF_POOLED = 12


def most_bytes(blocks: Blocks, work: Work, gradient: bool) -> float:
    """Return temporary memory that the compiled program does not exceed.

    XLA pads, keeps values longer than they are used, has blocks that are written out in memory at
    once, and copies weights into other layouts. How often it does is taken from what compilers said
    of the programs of `devices/tables`, with a quarter more of each.
    """
    rows, side_by_side = blocks.rows, 1 + blocks.beside
    live = work.live_bytes + work.spread_bytes
    total = 2 * rows * live + _edges_bytes(blocks, work, gradient) + work.weight_bytes
    total += blocks.beside * rows * (live + work.gathered_bytes)
    if not gradient:
        images = 0 if blocks.plain else 2 if work.tiled_convs else 1
        return total + images * side_by_side * rows * work.largest_patch_bytes
    # A loop has a gradient of the weights, adds to it, and copies both; other blocks have one each.
    total += (2 if blocks.looped else blocks.count) * work.weight_bytes
    images = IN_TILES if work.tiled_convs or blocks.plain else 2
    total += images * side_by_side * rows * work.patch_bytes
    total += _OF_POOLED * rows * work.pooled_values * blocks.plain
    kept = rows * work.kept_bytes
    if blocks.count > 1 and blocks.remat:
        return total + 2 * kept
    # A loop stacks what it keeps, which is copied whole.
    return total + (4 if blocks.looped else 2) * kept * blocks.count


def taken_bytes(blocks: Blocks, work: Work, gradient: bool, tiles: bool) -> float:
    """Return the temporary memory that a compiled program takes, about.

    What each part is worth, on average, was fitted to what compilers said of the programs of
    `devices/tables` (least squares of relative errors): half of these are predicted within 25%.
    """
    rows, beside = blocks.rows, blocks.beside
    images = 0.0 if blocks.plain else rows * (IN_TILES if tiles else 1.0)
    turned = (work.input_bytes + work.output_bytes) * blocks.transposed * rows
    turned *= blocks.count if blocks.looped else 1
    if not gradient:
        inner = work.live_bytes
        if blocks.count == 1:  # what it reads and gives is in memory anyway
            inner = max(0.0, inner - work.input_bytes - work.output_bytes)
        together = 0.4 * work.output_bytes * rows * blocks.count if blocks.looped else 0.0
        side_by_side = 1 + 0.45 * beside
        looked_up = 0.55 * rows * work.gathered_bytes * beside
        images *= 0.7 * work.largest_patch_bytes
        return side_by_side * rows * inner + images + looked_up + together + 0.6 * turned
    kept = rows * work.kept_bytes * (1 if blocks.remat else blocks.count)
    in_use = 0.65 * rows * (work.live_bytes + work.spread_bytes)
    looked_up = 1.3 * rows * work.gathered_bytes * beside
    images *= (1.3 + 0.2 * beside) * work.patch_bytes
    weights = work.weight_bytes * (1.1 * blocks.looped + 0.45 * beside)
    return in_use + 1.05 * kept + images + looked_up + weights + 1.1 * turned


def _edges_bytes(blocks: Blocks, work: Work, gradient: bool) -> float:
    """Return the memory for putting blocks together, and for rows in another order."""
    everything = blocks.rows * blocks.count
    pieces = work.output_bytes + (work.input_bytes if gradient else 0.0)
    turned = (work.input_bytes + work.output_bytes) * (everything if blocks.looped else blocks.rows)
    return (pieces * everything if blocks.count > 1 else 0.0) + turned * blocks.transposed
