"""Which results of a program are zero where some of its inputs are.

Values that are the same everywhere are followed: zeros, and numbers written in the program, so that
`max(dy, 0)` is zero for `dy = 0`, and `max(dy, 0.5)` is not. Products with zero are zero: what is
not finite is left out of account, as in the derivatives of JAX.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tdjax.core.jaxpr import inner_program, is_literal, scan_counts
from tdjax.independence.rules.elementwise import elementwise
from tdjax.independence.rules.rule import Form, Traits, traits_of

_Value = Any  # a number that all elements are, or None where that is not known


def known_zeros(jaxpr: Any, zeros: Sequence[bool]) -> list[bool]:
    """Return which outputs of a program are zero, given which of its inputs are."""
    given = [0 if zero else None for zero in zeros]
    return [value is not None and value == 0 for value in _run(jaxpr, given)]


def _run(program: Any, inputs: Sequence[_Value]) -> list[_Value]:
    jaxpr = getattr(program, "jaxpr", program)
    known: dict[Any, _Value] = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> _Value:
        if atom.aval.dtype == jax.dtypes.float0:  # of whole numbers: there is nothing but zero
            return 0
        if not is_literal(atom):
            return known.get(atom)
        return atom.val if np.ndim(atom.val) == 0 else None

    for eqn in jaxpr.eqns:
        outputs = _equation(eqn, [read(atom) for atom in eqn.invars])
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(eqn: Any, values: list[_Value]) -> list[_Value]:
    traits = traits_of(eqn.primitive)
    nothing = [None] * len(eqn.outvars)
    if traits.form in (Form.CALL, Form.REMAT, Form.CUSTOM):
        return _run(inner_program(eqn), values)
    if traits.form is Form.BRANCH:
        branches = [_run(branch, values[1:]) for branch in eqn.params["branches"]]
        return [each[0] if _all_same(each) else None for each in zip(*branches, strict=True)]
    if eqn.primitive.name == "scan":
        return _scan(eqn, values)
    if _vanishes(traits, values):
        return [0] * len(eqn.outvars)
    if traits.rows is elementwise and None not in values:
        with jax.ensure_compile_time_eval():
            numbers = (
                np.asarray(value, atom.aval.dtype)
                for value, atom in zip(values, eqn.invars, strict=True)
            )
            outputs = eqn.primitive.bind(*numbers, **eqn.params)
            outputs = outputs if eqn.primitive.multiple_results else [outputs]
            return [output.item() for output in outputs]
    if eqn.primitive.name in ("broadcast_in_dim", "reshape"):
        return values[:1]
    return nothing


def _all_same(values: Sequence[_Value]) -> bool:
    return all(value is not None and value == values[0] for value in values)


def _vanishes(traits: Traits, values: list[_Value]) -> bool:
    zero = [value is not None and value == 0 for value in values]
    if traits.sums == "bilinear":
        return any(zero)
    if traits.zeros is not None:
        return all(zero[place] for place in range(len(zero))[traits.zeros])
    return traits.sums is not None and zero[0] and (traits.sums != "additive" or all(zero))


def _scan(eqn: Any, values: list[_Value]) -> list[_Value]:
    consts, carried = scan_counts(eqn)
    carry = values[consts : consts + carried]
    while True:
        inputs = [*values[:consts], *carry, *values[consts + carried :]]
        outputs = _run(eqn.params["jaxpr"], inputs)
        after = [
            old if old is not None and old == new else None
            for old, new in zip(carry, outputs, strict=False)
        ]
        if after == carry:
            return [*carry, *outputs[carried:]]
        carry = after
