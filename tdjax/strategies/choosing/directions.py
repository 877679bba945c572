"""Runs one program where a call is not differentiated, and another one where it is.

A call does not know whether it is differentiated, for `jax.grad` may be outermost. A primitive
does: it is computed if nothing is differentiated, and its rule for tangents is asked if anything
is. That rule differentiates the other program, so that derivatives of any order are those of it.

`jax.custom_jvp` would do the same, but for `jax.vmap` between the call and `jax.grad`: it maps what
has been differentiated already, which JAX cannot do for a branch or a `jax.custom_vjp`. Here both
programs are mapped, and differentiated after that.

Both are traced at the call, since a rule may be called after what is around the call has been
traced, when tracers that it closes over are dead. What they close over is given to them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from tdjax.core.call import Program, trace_function
from tdjax.core.checkable import Checkable
from tdjax.core.shared import as_joined, joining

Run = Callable[[Sequence[Any]], Any]
Evaluate = Callable[[Sequence[Any]], list[Any]]


def run_apart(arrays: Sequence[Any], forward: Run, gradient: Run) -> Any:
    """Return `forward(arrays)`, with the derivatives of `gradient`, which computes the same.

    Args:
        arrays: what is computed with, None included; only what is traced has derivatives.
        forward, gradient: return a pytree of arrays each, of the same types.
    """
    places = [i for i, array in enumerate(arrays) if isinstance(array, jax.core.Tracer)]
    parts, tree = jax.tree.flatten([as_joined(arrays[i]) for i in places])

    def traced(run: Run) -> Program:
        def on_parts(*parts: Any) -> Any:
            with joining(jax.tree.unflatten(tree, parts)) as joined:
                merged = list(arrays)
                for place, array in zip(places, joined, strict=True):
                    merged[place] = array
                return run(merged)

        return trace_function(on_parts, *parts)

    programs = traced(forward), traced(gradient)
    closed_over = {id(const): const for program in programs for const in program.consts}
    numbers = {name: number for number, name in enumerate(closed_over)}

    def of_all(program: Program) -> Evaluate:
        """Return a program as a function of what both close over, and the parts."""
        taken = [numbers[id(const)] for const in program.consts]
        bare = dataclasses.replace(program, consts=())
        return lambda values: bare([values[k] for k in taken], values[len(numbers) :])

    outputs = apart_p.bind(
        *closed_over.values(),
        *parts,
        forward=of_all(programs[0]),
        gradient=of_all(programs[1]),
        types=_types_of(programs[0]),
    )
    return jax.tree.unflatten(programs[0].out_tree, outputs)


def _types_of(program: Program) -> tuple[Any, ...]:
    return tuple(atom.aval for atom in program.jaxpr.outvars)


def _on(run: Evaluate, places: Sequence[int], values: Sequence[Any]) -> Callable[..., list[Any]]:
    """Return a program as a function of some of its values."""

    def function(*given: Any) -> list[Any]:
        merged = list(values)
        for place, value in zip(places, given, strict=True):
            merged[place] = value
        return run(merged)

    return function


def _compute(*values: Any, forward: Evaluate, gradient: Evaluate, types: Any) -> list[Any]:
    return forward(values)


def _types(*_: Any, forward: Evaluate, gradient: Evaluate, types: Any) -> list[Any]:
    return list(types)


def _jvp(
    values: Any, changes: Any, *, forward: Evaluate, gradient: Evaluate, types: Any
) -> tuple[Any, Any]:
    changed = [i for i, change in enumerate(changes) if not isinstance(change, ad.Zero)]
    pairs = [values[i] for i in changed], [changes[i] for i in changed]
    outputs, moved = jax.jvp(_on(gradient, changed, values), *pairs)
    return outputs, [
        change
        if jnp.issubdtype(output.dtype, jnp.inexact)
        else ad.Zero(jax.typeof(output).to_tangent_aval())
        for output, change in zip(outputs, moved, strict=True)
    ]


def _transpose(
    cotangents: Any, *values: Any, forward: Evaluate, gradient: Evaluate, types: Any
) -> list[Any]:
    linear = [i for i, value in enumerate(values) if ad.is_undefined_primal(value)]
    known = [k for k, each in enumerate(cotangents) if not isinstance(each, ad.Zero)]
    of_linear = _on(gradient, linear, values)
    back = jax.linear_transpose(
        lambda *given: [of_linear(*given)[k] for k in known], *(values[i].aval for i in linear)
    )
    found = dict(zip(linear, back([cotangents[k] for k in known]), strict=True))
    return [found.get(i) for i in range(len(values))]


def _batch(
    values: Any,
    axes: Sequence[int | None],
    *,
    forward: Evaluate,
    gradient: Evaluate,
    types: Any,
) -> tuple[Any, Any]:
    size = next(v.shape[axis] for v, axis in zip(values, axes, strict=True) if axis is not None)

    def mapped(run: Evaluate) -> Program:
        every = jax.vmap(_on(run, range(len(values)), values), axes, axis_size=size)
        return trace_function(every, *values)

    def evaluate(program: Program) -> Evaluate:
        return lambda values: program(program.consts, values)

    first, second = mapped(forward), mapped(gradient)
    outputs = apart_p.bind(
        *values, forward=evaluate(first), gradient=evaluate(second), types=_types_of(first)
    )
    return outputs, [0] * len(outputs)


apart_p = Checkable(
    "tdjax_custom_jvp_call",
    _compute,
    _types,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
)
