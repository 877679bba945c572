"""Primitives of our own that `jax.experimental.checkify` can look into.

To `checkify`, an equation with the parameter `call_jaxpr` calls that program: it makes a function
that runs the program and its checks, and binds the primitive with that, as `subfuns`, instead. Of a
primitive without it nothing is checked. The program is traced when it is asked for, which nothing
but `checkify` does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Primitive

from tdjax.core.arrays import reshaped


class Checkable(Primitive):
    """A primitive that is checked as the function that computes it.

    Args:
        name: of the primitive.
        compute: takes its inputs and parameters.
    """

    def __init__(self, name: str, compute: Callable[..., Any]) -> None:
        super().__init__(name)
        self._compute = compute

    def bind(self, *args: Any, subfuns: Any = (), **params: Any) -> Any:
        """Return the outputs; or those of the checked program, where there is one."""
        for checked in subfuns:
            return checked.call_wrapped(*args)
        params.pop("call_jaxpr", None)  # of other inputs, where a rule hands on what it was given
        specs = [reshaped(jax.typeof(arg).shape, arg) for arg in args]
        program = _Program(functools.partial(self._compute, **params), specs)
        return super().bind(*args, **params, call_jaxpr=program)


class _Program:
    """A program that has no equations before `checkify` asks for them.

    It says nothing that the other parameters do not say, so all of them are equal.
    """

    def __init__(self, function: Callable[..., Any], specs: list[Any]) -> None:
        self._function, self._specs = function, specs

    @property
    def debug_info(self) -> Any:
        """Where the program comes from, which is asked for first."""
        # Inside of jit it has no constants of its own.
        jaxpr = jax.make_jaxpr(jax.jit(self._function))(*self._specs).jaxpr
        names = ("constvars", "invars", "outvars", "eqns")
        vars(self).update({name: getattr(jaxpr, name) for name in names})
        return jaxpr.debug_info

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Program)

    def __hash__(self) -> int:
        return hash(_Program)


def unseen(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Return a rule of a primitive that is not given the program."""
    return lambda *args, call_jaxpr=None, **params: rule(*args, **params)
