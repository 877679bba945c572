"""Runs calls on meshes: every device computes its own block of batch and time."""

from tdjax.partition.device_block import Cut, in_block, own_block, refuse, run
from tdjax.partition.noise import Noise, find_noise
from tdjax.partition.placement import Placement, check_partition, gathered, place, sequence
from tdjax.partition.shard_map import spread

__all__ = [
    "Cut",
    "Noise",
    "Placement",
    "check_partition",
    "find_noise",
    "gathered",
    "in_block",
    "own_block",
    "place",
    "refuse",
    "run",
    "sequence",
    "spread",
]
