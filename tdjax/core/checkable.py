"""Primitives of our own that `jax.experimental.checkify` can look into.

To `checkify`, an equation with the parameter `call_jaxpr` calls that program: it makes a function
that runs the program and its checks, and binds the primitive with that, as `subfuns`, instead. Of a
primitive without it nothing is checked. The program is traced when it is asked for, which nothing
but `checkify` does. It takes the outputs for a list, so all of these primitives return lists.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Rule = Callable[..., Any]


class Checkable(Primitive):
    """A primitive that is checked as the function that computes it.

    Args:
        name: of the primitive.
        compute: takes inputs and parameters, and returns a list of outputs, as `types` does.
        types: returns the types of outputs.
        jvp, transpose, batch: the rules, as JAX takes them.
        checked: computes the same for `checkify`.
    """

    multiple_results = True

    def __init__(
        self,
        name: str,
        compute: Rule,
        types: Rule,
        *,
        jvp: Rule,
        transpose: Rule | None = None,
        batch: Rule,
        checked: Rule | None = None,
    ) -> None:
        super().__init__(name)
        self._checked = checked or compute
        self.def_impl(_unseen(compute))
        self.def_abstract_eval(_unseen(types))
        ad.primitive_jvps[self] = _unseen(jvp)
        if transpose is not None:
            ad.primitive_transposes[self] = _unseen(transpose)
        batching.primitive_batchers[self] = _unseen(batch)
        self.lower(compute)

    def lower(self, compute: Rule, platform: str | None = None) -> None:
        """Have it computed in this way in compiled programs, for all platforms or for one."""
        lowering = mlir.lower_fun(_unseen(compute), multiple_results=True)
        mlir.register_lowering(self, lowering, platform=platform)

    def bind(self, *args: Any, subfuns: Any = (), **params: Any) -> Any:
        """Return the outputs; or those of the checked program, where there is one."""
        for checked in subfuns:
            return checked.call_wrapped(*args)
        return super().bind(*args, **self.with_program(params, map(jax.typeof, args)))

    def with_program(self, params: dict[str, Any], types: Any) -> dict[str, Any]:
        """Return the parameters of an equation, with the program for inputs of these types."""
        own = {name: value for name, value in params.items() if name != "call_jaxpr"}
        return {**own, "call_jaxpr": _Program(functools.partial(self._checked, **own), [*types])}


class SingleResult(Checkable):
    """One of a single output, which functions and rules return as it is, not in a list.

    Args:
        name, compute, types, jvp, transpose, batch, checked: as above.
        series: takes inputs and the terms of their series, and returns those of the output, for
            `jax.experimental.jet`.
    """

    def __init__(
        self,
        name: str,
        compute: Rule,
        types: Rule,
        *,
        jvp: Rule,
        transpose: Rule | None = None,
        batch: Rule,
        checked: Rule | None = None,
        series: Rule | None = None,
    ) -> None:
        def pair(rule: Rule) -> Rule:
            return lambda *args, **params: tuple([each] for each in rule(*args, **params))

        def transposed(cotangents: Sequence[Any], *args: Any, **params: Any) -> Any:
            assert transpose is not None
            (cotangent,) = cotangents
            none = isinstance(cotangent, ad.Zero)
            return [None] * len(args) if none else transpose(cotangent, *args, **params)

        super().__init__(
            name,
            _listed(compute),
            _listed(types),
            jvp=pair(jvp),
            transpose=transpose and transposed,
            batch=pair(batch),
            checked=checked,
        )
        if series is not None:
            self._tell_jet(_unseen(series))

    def _tell_jet(self, series: Rule) -> None:
        def rule(primals: Any, terms: Any, **params: Any) -> tuple[Any, Any]:
            return self.bind(*primals, **params), [series(primals, terms, **params)]

        with contextlib.suppress(ImportError):  # all else does without
            from jax.experimental import jet

            rules: dict[Any, Any] = jet.jet_rules
            rules[self] = rule

    def lower_single(self, compute: Rule, platform: str) -> None:
        """Have it computed in this way on a platform."""
        self.lower(_listed(compute), platform)

    def single(self, *args: Any, **params: Any) -> Any:
        """Return the output."""
        return self.bind(*args, **params)[0]


def bilinear(
    name: str,
    compute: Rule,
    types: Rule,
    left: Rule,
    right: Rule,
    batch: Rule,
    differentiated: Any = None,
) -> Any:
    """Return a primitive that is linear in each of its two inputs.

    Args:
        name, compute, types, batch: as above.
        left, right: take a cotangent and both inputs, of which one is of an unknown value, and
            return the gradient for that one.
        differentiated: what takes its place where it is differentiated; None for itself.
    """

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        own = differentiated or primitive
        moved = ((tangents[0], primals[1]), (primals[0], tangents[1]))
        parts = [
            own.single(*sides, **params)
            for sides, tangent in zip(moved, tangents, strict=True)
            if not isinstance(tangent, ad.Zero)
        ]
        return with_tangent(own.single(*primals, **params), parts)

    def transpose(cotangent: Any, *sides: Any, **params: Any) -> list[Any]:
        rules = zip((left, right), sides, strict=True)
        return [
            rule(cotangent, *sides, **params) if ad.is_undefined_primal(side) else None
            for rule, side in rules
        ]

    primitive = SingleResult(name, compute, types, jvp=jvp, transpose=transpose, batch=batch)
    return primitive


def with_tangent(output: Any, parts: Sequence[Any]) -> tuple[Any, Any]:
    """Return an output and its tangent, which is the sum of some parts."""
    if not parts:
        return output, ad.Zero(jax.typeof(output).to_tangent_aval())
    return output, sum(parts[1:], parts[0])


class _Program:
    """A program that has no equations before `checkify` asks for them.

    It says nothing that the other parameters do not say, so all of them are equal.
    """

    def __init__(self, function: Rule, types: list[Any]) -> None:
        self._function, self._types = function, types

    @property
    def debug_info(self) -> Any:
        """Where the program comes from, which is asked for first."""
        # Inside of jit it has no constants of its own.
        jaxpr = jax.make_jaxpr(jax.jit(self._function))(*self._types).jaxpr
        names = ("constvars", "invars", "outvars", "eqns")
        vars(self).update({name: getattr(jaxpr, name) for name in names})
        return jaxpr.debug_info

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Program)

    def __hash__(self) -> int:
        return hash(_Program)


def _unseen(rule: Rule) -> Rule:
    """Return a rule of a primitive that is not given the program."""
    return lambda *args, call_jaxpr=None, **params: rule(*args, **params)


def _listed(function: Rule) -> Rule:
    return lambda *args, **params: [function(*args, **params)]
