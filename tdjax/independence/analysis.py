"""Follows the rows through the equations of a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tdjax.core.jaxpr import is_literal, source_line
from tdjax.independence.kinds import CONST, STEP, SUM, Kind, NotProvenError, Rows
from tdjax.independence.rules import table  # noqa: F401  (the rules are its lines)
from tdjax.independence.rules.rule import End, Step, Traits, every_output, shape_of, traits_of
from tdjax.independence.rules.sums import makes_sum, of_sums
from tdjax.independence.sizes import ROWS, Size
from tdjax.independence.two_traces import Differs, Merged, follows_rows


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
        depth: how many derivative rules, each inside the other, are being followed.
    """

    sums: bool = False
    depth: int = 0

    def inside(self, sums: bool = False) -> Analysis:
        """Return the same for a derivative rule, in which sums over rows may appear."""
        return Analysis(sums or self.sums, self.depth + 1)

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
            traits = traits_of(eqn.primitive)
            if traits.nested is not None:
                outputs, inner = traits.nested(self, eqn, kinds)
            elif self.sums and SUM in kinds:
                outputs = of_sums(eqn, kinds, traits)
            elif self.sums and makes_sum(eqn, kinds):
                outputs = every_output(eqn, SUM)
            elif any(isinstance(kind, Rows) for kind in kinds):
                if traits.rows is None:
                    raise NotProvenError("has no rule that says where it takes the rows")
                outputs = traits.rows(eqn, kinds)
            else:
                outputs = self._without_rows(eqn, kinds, traits)
            self._check_outputs(eqn, outputs)
            self._check_params(eqn, kinds, outputs, traits)
            return Step(eqn, tuple(kinds), tuple(outputs), inner)
        except ObstacleError as error:
            raise error.seen_from(eqn) from None
        except NotProvenError as error:
            raise ObstacleError(eqn, str(error)) from None
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # Another JAX may call a parameter otherwise: what is not understood proves nothing.
            reason = f"has a form that its rule does not know ({type(error).__name__}: {error})"
            raise ObstacleError(eqn, reason) from error

    def _without_rows(self, eqn: Any, kinds: list[Kind], traits: Traits) -> list[Kind]:
        """Return the kinds of what is made from values without rows."""
        base: Kind = STEP if STEP in kinds else CONST
        axes = [self._row_axes(shape_of(atom)) for atom in eqn.outvars]
        if not any(axes):
            return [base] * len(axes)
        return [self._made_rows(eqn, base, found, traits) for found in axes]

    def _row_axes(self, shape: tuple) -> list[int]:
        return [axis for axis, size in enumerate(shape) if isinstance(size, Size)]

    def _made_rows(self, eqn: Any, base: Kind, axes: list[int], traits: Traits) -> Kind:
        name = eqn.primitive.name
        if len(axes) != 1:
            raise NotProvenError("has rows along more than one axis")
        (axis,) = axes
        if name == "iota" and eqn.params["dimension"] == axis:
            raise NotProvenError("numbers the rows, which a fold renumbers")
        if traits.draws and base is CONST:
            raise NotProvenError(
                "draws noise for all rows from one key that all steps share: a fold would give "
                "every step its own noise (map a key over time to want that)"
            )
        if not traits.makes_rows:
            raise NotProvenError("makes rows from their number alone")
        return Rows(axis, 1, shape_of(eqn.outvars[0])[axis].factor)

    def _check_outputs(self, eqn: Any, kinds: list[Kind]) -> None:
        """Hold every rule to the shapes: rows stand where it says, and nowhere else."""
        for atom, kind in zip(eqn.outvars, kinds, strict=True):
            for axis, size in enumerate(shape_of(atom)):
                if isinstance(kind, Rows) and axis == kind.axis:
                    if size != kind.outer * ROWS * kind.inner:
                        raise NotProvenError("changes the number of rows")
                elif isinstance(size, Size):
                    raise NotProvenError("has rows along more than one axis")

    def _check_params(
        self, eqn: Any, inputs: list[Kind], outputs: list[Kind], traits: Traits
    ) -> None:
        """Hold every parameter to what is said of it: the number of rows stands nowhere else.

        `x ** x.shape[0]`, or padding as wide as the batch, is another operation for another batch.
        """
        for name, value in eqn.params.items():
            if not follows_rows(value):
                continue
            end = traits.follows.get(name)
            if end is None:
                raise NotProvenError(f"reads the number of rows ({name}), which a fold changes")
            if traits.nested is None:
                self._check_entries(eqn, name, value, end, inputs, outputs)

    def _check_entries(
        self, eqn: Any, name: str, value: Any, end: End, inputs: list[Kind], outputs: list[Kind]
    ) -> None:
        given = inputs if end is End.INPUT else outputs
        atoms = eqn.invars if end is End.INPUT else eqn.outvars
        places = zip(given, atoms, strict=True)
        kind, atom = next((pair for pair in places if isinstance(pair[0], Rows)), (None, None))
        shift = len(shape_of(atom)) - len(value) if isinstance(kind, Rows) else 0
        axis = kind.axis - shift if isinstance(kind, Rows) else None
        if any(follows_rows(entry) and place != axis for place, entry in enumerate(value)):
            raise NotProvenError(f"reads the number of rows ({name}), which a fold changes")
