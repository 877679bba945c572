"""Follows the rows through the equations of a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tdjax.core.jaxpr import is_literal, source_line
from tdjax.independence.kinds import CONST, STEP, SUM, Kind, NotProvenError, Rows
from tdjax.independence.rules.rule import Step, every_output, shape_of
from tdjax.independence.rules.sums import makes_sum, of_sums
from tdjax.independence.rules.table import NESTED, RULES
from tdjax.independence.sizes import ROWS, Size
from tdjax.independence.two_traces import Differs, Merged, goes_with_rows

_MAKES_ROWS = frozenset(["broadcast_in_dim", "iota", "random_bits", "random_split"])


class ObstacleError(NotProvenError):
    """The reason why the proof stops, with the operation and its source line."""

    def __init__(self, eqn: Any, reason: str) -> None:
        self.line = source_line(eqn)
        self.operation, self.reason = eqn.primitive.name, reason
        super().__init__(f"`{eqn.primitive.name}` at {self.line} {reason}")

    def seen_from(self, eqn: Any) -> ObstacleError:
        """Return the same obstacle with the line of the call around it, if it has none itself."""
        if self.line:
            return self
        outer = ObstacleError(eqn, self.reason)
        outer.operation = self.operation
        outer.args = (f"`{self.operation}` at {outer.line} {self.reason}",)
        return outer


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The rules at work.

    Attributes:
        sums: whether sums over all rows may appear, as in the gradient of a shared array.
        within: the functions whose derivative rules are being followed.
        checked: derivative rules that have been followed already.
    """

    sums: bool = False
    within: frozenset[Any] = frozenset()
    checked: set[Any] = dataclasses.field(default_factory=set)

    def inside(self, function: Any, sums: bool = False) -> Analysis:
        """Return the same rules for the derivative rule of a function."""
        within = self.within | {function}
        return dataclasses.replace(self, within=within, sums=sums or self.sums)

    def run(self, program: Merged, inputs: Sequence[Kind]) -> tuple[list[Kind], tuple[Step, ...]]:
        """Return the kinds of the outputs, and of everything on the way.

        Raises:
            ObstacleError: an equation whose rows may mix, or that has no rule.
        """
        kinds: dict[Any, Kind] = {atom.variable: CONST for atom in program.constvars}
        kinds.update(zip((atom.variable for atom in program.invars), inputs, strict=True))

        def read(atom: Any) -> Kind:
            return CONST if is_literal(atom) else kinds[atom.variable]

        steps = []
        try:
            for eqn in program.equations():
                step = self._equation(eqn, [read(atom) for atom in eqn.invars])
                for atom, kind in zip(eqn.outvars, step.outputs, strict=True):
                    kinds[atom.variable] = kind
                steps.append(step)
        except Differs as error:
            raise ObstacleError(error.eqn, str(error)) from None
        return [read(atom) for atom in program.outvars], tuple(steps)

    def _equation(self, eqn: Any, kinds: list[Kind]) -> Step:
        try:
            inner: tuple[Step, ...] = ()
            name = eqn.primitive.name
            if name in NESTED:
                outputs, inner = NESTED[name](self, eqn, kinds)
            elif self.sums and SUM in kinds:
                outputs = of_sums(eqn, kinds)
            elif self.sums and makes_sum(eqn, kinds):
                outputs = every_output(eqn, SUM)
            elif any(isinstance(kind, Rows) for kind in kinds):
                if name not in RULES:
                    raise NotProvenError("has no rule that says where it takes the rows")
                outputs = RULES[name](eqn, kinds)
            else:
                outputs = self._without_rows(eqn, kinds)
            self._check(eqn, outputs)
            return Step(eqn, tuple(kinds), tuple(outputs), inner)
        except ObstacleError as error:
            raise error.seen_from(eqn) from None
        except NotProvenError as error:
            raise ObstacleError(eqn, str(error)) from None
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # Another JAX may call a parameter otherwise: what is not understood proves nothing.
            reason = f"has a form that its rule does not know ({type(error).__name__}: {error})"
            raise ObstacleError(eqn, reason) from error

    def _without_rows(self, eqn: Any, kinds: list[Kind]) -> list[Kind]:
        """Return the kinds of what is made from values without rows."""
        base: Kind = STEP if STEP in kinds else CONST
        axes = [self._row_axes(shape_of(atom)) for atom in eqn.outvars]
        if not any(axes):
            if goes_with_rows(eqn.params):
                raise NotProvenError("reads the number of rows, which a fold changes")
            return [base] * len(axes)
        return [self._made_rows(eqn, base, found) for found in axes]

    def _row_axes(self, shape: tuple) -> list[int]:
        return [axis for axis, size in enumerate(shape) if isinstance(size, Size)]

    def _made_rows(self, eqn: Any, base: Kind, axes: list[int]) -> Kind:
        name = eqn.primitive.name
        if len(axes) != 1:
            raise NotProvenError("has rows along more than one axis")
        (axis,) = axes
        if name == "iota" and eqn.params["dimension"] == axis:
            raise NotProvenError("numbers the rows, which a fold renumbers")
        if name in ("random_bits", "random_split") and base is CONST:
            raise NotProvenError(
                "draws noise for all rows from one key that all steps share: a fold would give "
                "every step its own noise (map a key over time to want that)"
            )
        size = shape_of(eqn.outvars[0])[axis]
        repeats = name == "tile" and size.factor == shape_of(eqn.invars[0])[axis]
        if not repeats and name not in _MAKES_ROWS:
            raise NotProvenError("makes rows from their number alone")
        return Rows(axis, 1, size.factor)

    def _check(self, eqn: Any, kinds: list[Kind]) -> None:
        """Hold every rule to the shapes: rows stand where it says, and nowhere else."""
        for atom, kind in zip(eqn.outvars, kinds, strict=True):
            for axis, size in enumerate(shape_of(atom)):
                if isinstance(kind, Rows) and axis == kind.axis:
                    if size != kind.outer * ROWS * kind.inner:
                        raise NotProvenError("changes the number of rows")
                elif isinstance(size, Size):
                    raise NotProvenError("has rows along more than one axis")
