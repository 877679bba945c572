"""Prepares a program that is to be computed in blocks."""

from __future__ import annotations

import dataclasses
from typing import Any

from tdjax.core.call import Program
from tdjax.core.jaxpr import all_equations


def convolving_fast(program: Program) -> Program:
    """Return a program that computes the same, with convolutions that are fast on a CPU."""
    bare = program.jaxpr.bare
    if not has_convolutions(bare):
        return program
    from tdjax.strategies.convolution.primitive import replaced  # needs jax.extend, 20 ms to import

    bare = replaced(bare)
    opened = dataclasses.replace(program.jaxpr, eqns=tuple(bare.eqns), bare=bare)
    return dataclasses.replace(program, jaxpr=opened)


def has_convolutions(jaxpr: Any) -> bool:
    """Say whether there is a convolution in a program, however deep."""
    return any(eqn.primitive.name == "conv_general_dilated" for eqn in all_equations(jaxpr))
