"""A program with its calls opened: the equations of all of them in one list, as XLA has them."""

from __future__ import annotations

from typing import Any, NamedTuple

from tdjax.core.jaxpr import inner_program, is_literal
from tdjax.independence.rules.rule import Form, traits_of


class Line(NamedTuple):
    """An equation.

    Attributes:
        eqn: the equation; its variables are of the program that it stands in.
        reads: the numbers of its inputs; of one that is a literal, the literal.
        writes: the numbers of its outputs.
    """

    eqn: Any
    reads: tuple[Any, ...]
    writes: tuple[int, ...]


class Flat(NamedTuple):
    """A program; loops and branches are lines of it.

    Attributes:
        lines: its equations, in the order in which they run.
        inputs: the numbers of its inputs.
        constants: the constants of it and of what it calls, by their numbers.
        outputs: the numbers of its outputs; of one that is a literal, the literal.
    """

    lines: tuple[Line, ...]
    inputs: tuple[int, ...]
    constants: dict[int, Any]
    outputs: tuple[Any, ...]


def flat(program: Any) -> Flat:
    """Return a program with its calls opened."""
    opening = _Opening()
    inputs = tuple(map(opening.number, program.invars))
    outputs = opening.run(program, inputs)
    return Flat(tuple(opening.lines), inputs, opening.constants, outputs)


class _Opening:
    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.constants: dict[int, Any] = {}
        self._numbers = 0

    def number(self, _: Any = None) -> int:
        self._numbers += 1
        return self._numbers

    def run(self, program: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Add the lines of a program with these inputs; return its outputs."""
        known = dict(zip(program.invars, inputs, strict=True))
        for variable in program.constvars:
            known[variable] = self.number()
            self.constants[known[variable]] = variable
        for eqn in program.eqns:
            reads = tuple(atom if is_literal(atom) else known[atom] for atom in eqn.invars)
            called = _called_by(eqn)
            if called is None:
                writes = tuple(map(self.number, eqn.outvars))
                self.lines.append(Line(eqn, reads, writes))
            else:
                writes = self.run(called, reads)
            known.update(zip(eqn.outvars, writes, strict=True))
        return tuple(atom if is_literal(atom) else known[atom] for atom in program.outvars)


def _called_by(eqn: Any) -> Any:
    """Return the program that an equation calls once with its own inputs, None if there is none."""
    if traits_of(eqn.primitive).form in (Form.LOOP, Form.BRANCH):
        return None
    called = plain(inner_program(eqn))
    return called if called is not None and len(called.invars) == len(eqn.invars) else None


def plain(program: Any) -> Any:
    """Return the equations of a program that may be closed over constants."""
    return getattr(program, "jaxpr", program)
