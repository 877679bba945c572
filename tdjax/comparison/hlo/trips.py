"""How often a loop repeats.

The compiler notes it where it knows it. Elsewhere it is read from the loop: a counter that
begins at a constant, grows by a constant and is compared with a constant.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tdjax.comparison.hlo.module import Computation, Instruction, Module

_PASSED_ON = ("bitcast", "convert", "copy", "copy-done", "copy-start", "opt-barrier", "reshape")
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
    "NE": operator.ne,
}


def trip_count(loop: Instruction, computation: Computation, module: Module) -> int | None:
    """Return how often a `while` of `computation` repeats, None where that is not known."""
    noted = loop.config.get("known_trip_count", {}).get("n")
    if noted is not None:
        return int(noted)
    named = {name: loop.attributes[name].lstrip("%") for name in ("condition", "body")}
    body = _Scope(module.computations[named["body"]], module)
    before = _Scope(computation, module)
    (start,) = computation.operands(loop)
    test = _Scope(module.computations[named["condition"]], module).comparison()
    if test is None or test.left is None or test.right is None or test.left.member is None:
        return None
    counter = test.left.member
    step = body.member(body.root, counter)
    begin = before.member(start, counter)
    limit: Affine | None = test.right
    if test.right.member is not None:
        # The loop carries its limit: that must come out of the body as it went in.
        if body.member(body.root, test.right.member) != Affine(test.right.member, 0):
            return None
        carried = before.member(start, test.right.member)
        limit = _sum(carried, Affine(None, test.right.plus), "add")
    if step is None or begin is None or limit is None or step.member != counter:
        return None
    if begin.member is not None or limit.member is not None:
        return None
    return _count_turns(begin.plus + test.left.plus, limit.plus, step.plus, test.holds)


def _count_turns(
    begin: int, limit: int, step: int, holds: Callable[[int, int], bool]
) -> int | None:
    """Return how many of begin, begin + step, ... pass the test; None if all of them do."""
    if not holds(begin, limit):
        return 0
    if step == 0:
        return None
    near = abs(limit - begin) // abs(step)
    ends = (n for n in (near, near + 1) if n and not holds(begin + n * step, limit))
    last = next(ends, None)
    return last if last is not None and holds(begin + (last - 1) * step, limit) else None


class Affine(NamedTuple):
    """An integer: `plus`, or the sum of `plus` and a member of what a loop carries."""

    member: int | None
    plus: int


class _Comparison(NamedTuple):
    left: Affine | None
    right: Affine | None
    holds: Callable[[int, int], bool]


class _Scope:
    """Follows integers through one computation, whose parameters may be known."""

    def __init__(
        self,
        computation: Computation,
        module: Module,
        given: Mapping[int, Affine | None] | None = None,
    ) -> None:
        self._computation = computation
        self._module = module
        self._given = given
        self.root = computation.root

    def comparison(self) -> _Comparison | None:
        """Return the two sides that the computation's result compares."""
        if self.root.opcode == "fusion":
            return self._inside(self.root).comparison()
        if self.root.opcode != "compare":
            return None
        left, right = map(self.value, self._computation.operands(self.root))
        holds = _COMPARISONS.get(self.root.attributes["direction"])
        return None if holds is None else _Comparison(left, right, holds)

    def member(self, of: Instruction, index: int) -> Affine | None:
        """Return one member of a tuple that is made in this computation."""
        while of.opcode in _PASSED_ON:
            (of,) = self._computation.operands(of)
        if of.opcode != "tuple":
            return None
        return self.value(self._computation.operands(of)[index])

    def value(self, of: Instruction) -> Affine | None:
        """Return the integer that an instruction gives, None where it is not known."""
        operands = self._computation.operands(of)
        if of.opcode == "constant":
            return Affine(None, int(of.literal)) if of.literal.lstrip("-").isdigit() else None
        if of.opcode == "parameter":
            return None if self._given is None else self._given[int(of.literal)]
        if of.opcode in _PASSED_ON:
            return self.value(operands[0])
        if of.opcode == "get-tuple-element":
            (index,) = of.integers("index")
            if operands[0].opcode == "parameter" and self._given is None:
                return Affine(index, 0)
            return self.member(operands[0], index)
        if of.opcode in ("add", "subtract"):
            return _sum(self.value(operands[0]), self.value(operands[1]), of.opcode)
        if of.opcode == "fusion":
            inside = self._inside(of)
            return inside.value(inside.root)
        return None

    def _inside(self, fusion: Instruction) -> _Scope:
        operands = self._computation.operands(fusion)
        given = {number: self.value(operand) for number, operand in enumerate(operands)}
        (fused,) = self._module.called(fusion)
        return _Scope(fused, self._module, given)


def _sum(left: Affine | None, right: Affine | None, opcode: str) -> Affine | None:
    if left is None or right is None:
        return None
    if opcode == "subtract":
        return Affine(left.member, left.plus - right.plus) if right.member is None else None
    if left.member is not None and right.member is not None:
        return None
    return Affine(right.member if left.member is None else left.member, left.plus + right.plus)
