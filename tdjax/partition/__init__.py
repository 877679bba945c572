"""Runs calls on meshes: every device computes its own block of batch and time."""

from tdjax.partition.device_block import (
    DividedCall,
    describe_block,
    refuse_dependent_rows,
    run_in_blocks,
    within_block,
)
from tdjax.partition.noise import Noise, draws, find_noise
from tdjax.partition.placement import (
    Placement,
    check_partition,
    find_placement,
    gather,
    quote_names,
)
from tdjax.partition.shard_map import map_blocks

__all__ = [
    "DividedCall",
    "Noise",
    "Placement",
    "check_partition",
    "describe_block",
    "draws",
    "find_noise",
    "find_placement",
    "gather",
    "map_blocks",
    "quote_names",
    "refuse_dependent_rows",
    "run_in_blocks",
    "within_block",
]
