"""Runs calls on meshes: every device computes its own block of batch and time."""

from tdjax.partition._local import own_block, run
from tdjax.partition._placement import Placement, check_partition, place

__all__ = ["Placement", "check_partition", "own_block", "place", "run"]
