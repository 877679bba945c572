"""Which results of a program are zero where some of its inputs are.

Values that are the same everywhere are followed: zeros, and numbers written in the program, so that
`max(dy, 0)` is zero for `dy = 0`, and `max(dy, 0.5)` is not. Of all else it is known whether it
comes from those inputs. What does not is finite, as in the derivatives of JAX, and its products
with zero are zero; what does may be anything, as in `dy / norm(dy)`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tdjax.core.jaxpr import all_equations, inner_program, is_literal, scan_counts
from tdjax.independence.rules.elementwise import elementwise
from tdjax.independence.rules.rule import Form, Traits, traits_of


class _Value(NamedTuple):
    """What is known of an array.

    Attributes:
        number: what all its elements are; None if that is not known.
        moved: whether it comes from the inputs that are zero.
    """

    number: Any
    moved: bool

    @property
    def is_zero(self) -> bool:
        return self.number is not None and self.number == 0

    @property
    def is_finite(self) -> bool:
        return not self.moved if self.number is None else bool(np.isfinite(self.number))


_GIVEN, _ZERO = _Value(None, False), _Value(0, True)


def known_zeros(jaxpr: Any, zeros: Sequence[bool]) -> list[bool]:
    """Return which outputs of a program are zero, given which of its inputs are."""
    given = [_ZERO if zero else _GIVEN for zero in zeros]
    return [value.is_zero for value in _Walk().run(jaxpr, given)]


def solves_that_add(program: Any) -> list[Any]:
    """Return the linear solves in a program whose gradients are not zero where cotangents are.

    What a solver starts from, zero or not, may be computed anywhere before it.
    """
    if not any(eqn.primitive.name == "custom_linear_solve" for eqn in all_equations(program)):
        return []
    walk = _Walk()
    walk.run(program, [_GIVEN] * len(getattr(program, "jaxpr", program).invars))
    return walk.adding


class _Walk:
    """Follows what is known through programs.

    Attributes:
        adding: the linear solves on the way whose transposed solver does not give zero for zero.
    """

    def __init__(self) -> None:
        self.adding: list[Any] = []

    def run(self, program: Any, inputs: Sequence[_Value]) -> list[_Value]:
        """Return what is known of a program's outputs."""
        jaxpr = getattr(program, "jaxpr", program)
        known = dict(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> _Value:
            if atom.aval.dtype == jax.dtypes.float0:  # of whole numbers: there is nothing but zero
                return _Value(0, False)
            if not is_literal(atom):
                return known.get(atom, _GIVEN)
            return _Value(atom.val if np.ndim(atom.val) == 0 else None, False)

        for eqn in jaxpr.eqns:
            outputs = self._equation(eqn, [read(atom) for atom in eqn.invars])
            known.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn: Any, values: list[_Value]) -> list[_Value]:
        traits = traits_of(eqn.primitive)
        if traits.form in (Form.CALL, Form.REMAT, Form.CUSTOM):
            return self.run(inner_program(eqn), values)
        if traits.form is Form.BRANCH:
            return self._branch(eqn, values)
        if traits.form is Form.LOOP:
            return (self._while if "body_jaxpr" in eqn.params else self._scan)(eqn, values)
        if eqn.primitive.name == "custom_linear_solve":
            return self._solve(eqn, values)
        if eqn.primitive.name in ("broadcast_in_dim", "reshape") or traits.form is Form.LAYOUT:
            return values[:1]
        moved = any(value.moved for value in values)
        return [_Value(number, moved) for number in _numbers(eqn, traits, values)]

    def _branch(self, eqn: Any, values: list[_Value]) -> list[_Value]:
        which, *operands = values
        found = [self.run(branch, operands) for branch in eqn.params["branches"]]
        joined = (functools.reduce(_joined, each) for each in zip(*found, strict=True))
        return [_taken_by(which, each) for each in joined]

    def _scan(self, eqn: Any, values: list[_Value]) -> list[_Value]:
        consts, carried = scan_counts(eqn)
        before, xs = values[:consts], values[consts + carried :]

        def turn(carry: list[_Value]) -> list[_Value]:
            return self.run(eqn.params["jaxpr"], [*before, *carry, *xs])

        return _settled(values[consts : consts + carried], turn)

    def _while(self, eqn: Any, values: list[_Value]) -> list[_Value]:
        test, body = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
        first, last = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        of_test, of_body = values[:first], values[first : first + last]

        def turn(carry: list[_Value]) -> list[_Value]:
            (goes_on,) = self.run(test, [*of_test, *carry])
            if goes_on.is_zero:
                return carry
            return [_taken_by(goes_on, each) for each in self.run(body, [*of_body, *carry])]

        return _settled(values[first + last :], turn)

    def _solve(self, eqn: Any, values: list[_Value]) -> list[_Value]:
        programs, counts = eqn.params["jaxprs"], eqn.params["const_lengths"]
        right_sides = values[sum(counts) :]
        end = sum(counts[:3])  # of what belongs to all but the last, the transposed solver
        if programs.transpose_solve is not None:
            consts = values[end : end + counts.transpose_solve]
            outputs = self.run(programs.transpose_solve, [*consts, *[_ZERO] * len(right_sides)])
            if not all(value.is_zero for value in outputs):
                self.adding.append(eqn)
        return self.run(programs.solve, [*values[end - counts.solve : end], *right_sides])


def _numbers(eqn: Any, traits: Traits, values: list[_Value]) -> list[Any]:
    """Return what all elements of each output of an operation are, None where it is not known."""
    given = [value.number for value in values]
    if traits.rows is elementwise:
        if len(eqn.outvars) > 1:  # a barrier, which gives what it is given
            return given
        if None not in given:
            with jax.ensure_compile_time_eval():
                inputs = (
                    np.asarray(number, atom.aval.dtype)
                    for number, atom in zip(given, eqn.invars, strict=True)
                )
                output = eqn.primitive.bind(*inputs, **eqn.params)
            return [(output[0] if eqn.primitive.multiple_results else output).item()]
    return [0 if _vanishes(eqn, traits, values) else None] * len(eqn.outvars)


def _vanishes(eqn: Any, traits: Traits, values: list[_Value]) -> bool:
    zero = [value.is_zero for value in values]
    if traits.zeros is not None:
        places = range(len(zero))[traits.zeros]
        return all(zero[place] for place in places) and not _puts_others(eqn, places)
    if traits.sums == "bilinear":
        return any(zero) and all(value.is_finite for value in values)
    if traits.sums == "quotient":
        return zero[0] and values[1].is_finite and values[1].number != 0
    if traits.sums == "solution":
        return zero[-1] and not any(value.moved for value in values[:-1])
    return traits.sums is not None and zero[0] and (traits.sums != "additive" or all(zero))


def _puts_others(eqn: Any, places: Sequence[int]) -> bool:
    """Say whether an operation that moves values, or chooses among them, may put others there.

    Args:
        eqn: the operation.
        places: which of its inputs are those values.
    """
    if any(math.prod(eqn.invars[place].aval.shape) == 0 for place in places):
        return True  # the product of no values is one
    if eqn.params.get("fill_value"):
        return True
    update = eqn.params.get("update_jaxpr")
    return update is not None and not all(known_zeros(update, [True] * len(update.invars)))


def _taken_by(which: _Value, value: _Value) -> _Value:
    """Return what is known of a value that is there, or not, as another says."""
    return _Value(value.number, value.moved or which.moved)


def _joined(one: _Value, other: _Value) -> _Value:
    """Return what is known of a value that is one or the other."""
    same = one.number is not None and one.number == other.number
    return _Value(one.number if same else None, one.moved or other.moved)


def _settled(carry: list[_Value], turn: Callable[[list[_Value]], list[_Value]]) -> list[_Value]:
    """Return what comes out of a loop: it goes round until nothing more is known to change."""
    while True:
        outputs = turn(carry)
        after = [_joined(old, new) for old, new in zip(carry, outputs, strict=False)]
        if after == carry:
            return [*carry, *outputs[len(carry) :]]
        carry = after
