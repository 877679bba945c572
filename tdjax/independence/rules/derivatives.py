"""Custom derivative rules: what they do to rows, too, must be what the loop does.

A rule written by hand may mix rows where its function does not (a gradient divided by its norm over
the batch). It is traced, and followed as the function is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.fingerprint import program_key
from tdjax.core.jaxpr import bind, inner_program, is_literal
from tdjax.independence.kinds import SUM, Kind, NotProvenError, Rows
from tdjax.independence.rules.rule import Follows
from tdjax.independence.two_traces import Merged

_JAX = os.path.dirname(jax.__file__) + os.sep
_ANYBODYS_RULES = "custom_derivatives.py"


def check_rules(analysis: Follows, eqn: Any, kinds: list[Kind], outputs: list[Kind]) -> None:
    """Raise NotProvenError unless the derivative rule of a custom call keeps rows apart."""
    if eqn.small is None or _is_jaxs_own(eqn.large):
        return
    function = program_key(inner_program(eqn.large))
    if function in analysis.within:
        return
    same = (function, tuple(kinds))
    if _is_jaxs_own_function(eqn.large):
        if same in analysis.checked:
            return
        analysis.checked.add(same)
    variables = [i for i, atom in enumerate(eqn.invars) if not is_literal(atom)]
    active = [i for i in variables if _inexact(eqn.invars[i])]
    if not active or not all(map(_inexact, eqn.outvars)):
        return
    forward = eqn.primitive.name == "custom_jvp_call"
    derived = derivative_program(eqn, variables, active, forward)
    primals, moving = [kinds[i] for i in variables], [kinds[i] for i in active]
    if forward:
        _expect(analysis.inside(function), derived, primals + moving, outputs)
    else:
        inside = analysis.inside(function, sums=True)
        _expect(inside, derived, primals + list(outputs), moving)


def derivative_program(eqn: Any, variables: list[int], active: list[int], forward: bool) -> Merged:
    """Return the derivative of a custom call as a program of primals and (co)tangents."""
    traces = []
    for one in (eqn.small, eqn.large):
        primals = [_struct(one.invars[i]) for i in variables]
        moving = [one.invars[i] for i in active] if forward else one.outvars
        call = _caller(one, variables)
        rule = (_pushforward if forward else _pullback)(call, variables, active)
        traces.append(_traced(rule, (primals, [_struct(atom) for atom in moving])))
    return Merged(*traces, *eqn.sizes)


def _is_jaxs_own(eqn: Any) -> bool:
    """Say whether a rule lies in JAX's own source: those are derivatives, and there are many."""
    for name in ("jvp_jaxpr_fun", "bwd"):
        debug_info = getattr(eqn.params.get(name), "debug_info", None)
        where = getattr(debug_info, "func_src_info", None) or ""
        if f" at {_JAX}" in where and _ANYBODYS_RULES not in where:
            return True
    return False


def _is_jaxs_own_function(eqn: Any) -> bool:
    """Say whether the function itself is JAX's own, so that one look at its rule will do."""
    program = inner_program(eqn)
    debug_info = getattr(getattr(program, "jaxpr", program), "debug_info", None)
    return f" at {_JAX}" in (getattr(debug_info, "func_src_info", None) or "")


def _inexact(atom: Any) -> bool:
    return bool(jnp.issubdtype(atom.aval.dtype, jnp.inexact))


def _struct(atom: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype)


def _caller(eqn: Any, variables: list[int]) -> Callable[[Sequence[Any]], list[Any]]:
    def call(values: Sequence[Any]) -> list[Any]:
        inputs = [atom.val if is_literal(atom) else None for atom in eqn.invars]
        for index, value in zip(variables, values, strict=True):
            inputs[index] = value
        return bind(eqn, inputs)

    return call


def _with_active(
    call: Callable[[Sequence[Any]], list[Any]], variables: list[int], active: list[int], values: Any
) -> tuple[Callable[..., list[Any]], list[Any]]:
    """Return the call as a function of its differentiable inputs, and those inputs."""
    where = [variables.index(i) for i in active]

    def of_active(*parts: Any) -> list[Any]:
        merged = list(values)
        for index, part in zip(where, parts, strict=True):
            merged[index] = part
        return call(merged)

    return of_active, [values[i] for i in where]


def _pushforward(call: Any, variables: list[int], active: list[int]) -> Callable[..., Any]:
    def push(values: Any, tangents: Any) -> Any:
        of_active, primals = _with_active(call, variables, active, values)
        return jax.jvp(of_active, primals, list(tangents))[1]

    return push


def _pullback(call: Any, variables: list[int], active: list[int]) -> Callable[..., Any]:
    def pull(values: Any, cotangents: Any) -> Any:
        of_active, primals = _with_active(call, variables, active, values)
        return jax.vjp(of_active, *primals)[1](list(cotangents))

    return pull


def _traced(function: Callable[..., Any], avals: Any) -> Any:
    try:
        return jax.make_jaxpr(function)(*avals)
    except Exception as error:  # whatever the rule raises, it has not been proven
        text = str(error).strip().splitlines()
        raise NotProvenError(
            "has a derivative rule of its own that cannot be traced: "
            f"{type(error).__name__}: {text[0] if text else ''}"
        ) from None


def _expect(analysis: Follows, derived: Merged, given: list[Kind], wanted: list[Kind]) -> None:
    try:
        kinds, _ = analysis.run(derived, given)
    except NotProvenError as error:
        raise NotProvenError(f"has a derivative rule of its own, in which {error}") from None
    for kind, want in zip(kinds, wanted, strict=True):
        fits = kind == want if isinstance(want, Rows) else kind in (want, SUM)
        if not fits:
            raise NotProvenError("has a derivative rule of its own that moves the rows")
