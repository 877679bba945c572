"""How long a strategy takes to trace and compile, by the equations of its program.

Measured over the suite, forward and with gradients (jax 0.10.2 and 0.12.0.1, Zen 4): a block that
is written out once more takes 0.24 to 0.6 of the time of the first, and convolutions in tdjax's own
forms, even in a single block, up to 8 times that of XLA's.
"""

from __future__ import annotations

from tdjax.costs.blocks import Blocks
from tdjax.costs.convolutions import OF_TILES
from tdjax.costs.machine import Machine
from tdjax.costs.work import Work

# What tracing and compiling takes for a program that does nothing, in equations.
_EVERY_PROGRAM = 15
# The part of a block's time that it takes when it is written out once more.
_AGAIN = 0.5
# A block is cut out, and put together with the others.
_EDGES = 2


def compile_size(blocks: Blocks, work: Work, machine: Machine) -> float:
    """Return how long tracing and compiling takes, in equations."""
    equations = work.equations
    if machine.platform == "cpu" and not blocks.plain:
        equations += work.own_equations
        if blocks.has_tiles(work, machine):
            equations += OF_TILES * work.tiled_convs
        if machine.takes_apart or machine.gradient_axes == 1:
            equations += work.part_equations
    if blocks.count > 1:
        equations += _EDGES
    again = 0 if blocks.looped else blocks.count - 1
    return _EVERY_PROGRAM + (1 + _AGAIN * again) * equations
