"""Convolutions and pooling that a CPU computes fast: their forms, and programs that use them."""

from __future__ import annotations

import dataclasses

from tdjax.core.call import Program
from tdjax.core.jaxpr import all_equations

_REPLACED = (
    *("conv_general_dilated", "reduce_window_max", "reduce_window_min"),
    *("select_and_gather_add", "select_and_scatter_add"),
)


def convolving_fast(program: Program, written_out: bool = False) -> Program:
    """Return a program that computes the same, with convolutions that are fast on a CPU.

    Args:
        program: the step, traced.
        written_out: whether it will be in one program several times.
    """
    bare = program.jaxpr.bare
    if not any(eqn.primitive.name in _REPLACED for eqn in all_equations(bare)):
        return program
    # These need jax.extend, which takes 20 ms to import.
    from tdjax.strategies.convolution.forms import Copies
    from tdjax.strategies.convolution.primitive import replace_convolutions

    bare = replace_convolutions(bare, Copies.WAITING if written_out else Copies.NONE)
    opened = dataclasses.replace(program.jaxpr, eqns=tuple(bare.eqns), bare=bare)
    return dataclasses.replace(program, jaxpr=opened)
