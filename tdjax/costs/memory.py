"""How much memory a pass takes beside its arguments and results."""

from __future__ import annotations

from tdjax.costs.blocks import Blocks
from tdjax.costs.convolutions import IN_TILES
from tdjax.costs.work import Work


def most_bytes(blocks: Blocks, work: Work, gradient: bool) -> float:
    """Return temporary memory that the compiled program does not exceed.

    XLA keeps blocks alive at the same time, pads, and copies weights into other layouts: on the
    suite its values took up to 2.2 times what is estimated, and copies of the weights came on top,
    one for every block that is written out. Such blocks may all be in memory at once.
    """
    copies = blocks.count if gradient and blocks.count > 1 and not blocks.looped else 1
    return (
        2.5 * _values_bytes(blocks, work, gradient, tiles=True)
        + blocks.beside * blocks.rows * work.live_bytes
        + 2.0 * _edges_bytes(blocks, work, gradient)
        + (copies + gradient) * work.weight_bytes
    )


def taken_bytes(blocks: Blocks, work: Work, gradient: bool, tiles: bool) -> float:
    """Return the memory that a pass takes beside its arguments and results."""
    return _values_bytes(blocks, work, gradient, tiles) + _edges_bytes(blocks, work, gradient)


def _values_bytes(blocks: Blocks, work: Work, gradient: bool, tiles: bool) -> float:
    """Return the memory of values in use, and of those that a gradient keeps."""
    apart = 0 if blocks.plain else blocks.rows * (1 + blocks.beside)
    in_use = (work.live_bytes + blocks.beside * work.gathered_bytes) * blocks.rows
    if work.tiled_convs and tiles:
        apart *= IN_TILES
    if not gradient:
        return in_use + apart * work.largest_patch_bytes
    in_use += apart * work.patch_bytes
    kept = work.kept_bytes * blocks.rows
    if blocks.count > 1 and blocks.remat:
        return in_use + kept
    return in_use + (2 if blocks.looped else 1) * kept * blocks.count


def _edges_bytes(blocks: Blocks, work: Work, gradient: bool) -> float:
    """Return the memory for putting blocks together, and for rows in another order."""
    everything = blocks.rows * blocks.count
    pieces = work.output_bytes + (work.input_bytes if gradient else 0.0)
    turned = (work.input_bytes + work.output_bytes) * (everything if blocks.looped else blocks.rows)
    return (pieces * everything if blocks.count > 1 else 0.0) + turned * blocks.transposed
