"""Runs calls on meshes: every device computes its own block of batch and time."""

from tdjax.partition._local import Cut, in_block, own_block, refuse, run
from tdjax.partition._noise import Noise, find_noise
from tdjax.partition._placement import Placement, check_partition, gathered, place, sequence
from tdjax.partition._shard import spread

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
