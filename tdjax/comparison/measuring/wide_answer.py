"""The right answer in narrow dtypes: that of the same function in float32.

No candidate's answer is: what XLA adds up in bfloat16, as the gradient of a bias, is off by a
fifth under `vmap` on a CPU, where others are right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from tdjax.core.jaxpr import all_equations
from tdjax.core.shared import dtype_of_sums
from tdjax.independence.rules.rule import traits_of


def answer_in_float32(
    function: Callable[..., Any], arguments: Sequence[Any]
) -> list[np.ndarray] | None:
    """Return what a function gives for arguments in float32, where theirs are narrower.

    Returns:
        None where no argument is narrow, where the function takes no wider ones, and where it draws
        other noise for them.
    """
    if all(dtype_of_sums(x.dtype) == x.dtype for x in jax.tree.leaves(arguments)):
        return None
    wide = jax.tree.map(lambda x: x.astype(dtype_of_sums(x.dtype)), arguments)
    try:
        programs = [jax.make_jaxpr(function)(*given) for given in (arguments, wide)]
        if len({_draws(program) for program in programs}) > 1:
            return None
        outputs = jax.jit(function)(*wide)
    except Exception:  # Whether a function takes wider arguments is known by trying.
        return None
    return [np.asarray(output) for output in outputs]


def _draws(program: Any) -> tuple[Any, ...]:
    """Return what a program draws: the sizes and the bits of all noise."""
    drawn = (eqn for eqn in all_equations(program) if traits_of(eqn.primitive).draws)
    return tuple(str(atom.aval) for eqn in drawn for atom in eqn.outvars)
