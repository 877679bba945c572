"""Follows the rows through the equations of a trace with a symbolic number of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tdjax._equation import is_literal, source_line
from tdjax._symbolic import mentions
from tdjax.independence._kinds import CONST, STEP, SUM, Kind, NotProvenError, Rows
from tdjax.independence._rules import RULES, every_output, shape_of
from tdjax.independence._sums import makes_sum, of_sums


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One equation with the kinds of its inputs and outputs, and what runs inside it."""

    eqn: Any
    inputs: tuple[Kind, ...]
    outputs: tuple[Kind, ...]
    inner: tuple[Step, ...] = ()


NestedRule = Callable[["Analysis", Any, list[Kind]], "tuple[list[Kind], tuple[Step, ...]]"]

NESTED: dict[str, NestedRule] = {}
"""Rules for primitives that hold other programs; `_control` fills it."""


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
    """The rules at work on one trace.

    Attributes:
        symbol: the number of rows.
        sums: whether sums over all rows may appear, as in the gradient of a shared array.
        within: the functions whose derivative rules are being followed.
    """

    symbol: Any
    sums: bool = False
    within: frozenset[Any] = frozenset()

    def run(
        self, jaxpr: Any, consts: Sequence[Kind], inputs: Sequence[Kind]
    ) -> tuple[list[Kind], tuple[Step, ...]]:
        """Return the kinds of the outputs, and of everything on the way.

        Raises:
            ObstacleError: an equation whose rows may mix, or that has no rule.
        """
        kinds: dict[Any, Kind] = dict(zip(jaxpr.constvars, consts, strict=True))
        kinds.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Kind:
            return CONST if is_literal(atom) else kinds[atom]

        steps = []
        for eqn in jaxpr.eqns:
            step = self._equation(eqn, [read(atom) for atom in eqn.invars])
            kinds.update(zip(eqn.outvars, step.outputs, strict=True))
            steps.append(step)
        return [read(atom) for atom in jaxpr.outvars], tuple(steps)

    def run_closed(self, closed: Any, inputs: Sequence[Kind]) -> tuple[list[Kind], tuple]:
        """Run on a jaxpr that may carry its constants with it."""
        jaxpr = getattr(closed, "jaxpr", closed)
        return self.run(jaxpr, [CONST] * len(jaxpr.constvars), inputs)

    def mentioned_in(self, value: Any) -> bool:
        """Say whether the number of rows stands anywhere in a parameter or a program."""
        return any(mentions(size, self.symbol) for size in _sizes(value))

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

    def _without_rows(self, eqn: Any, kinds: list[Kind]) -> list[Kind]:
        """Return the kinds of what is made from values without rows."""
        base: Kind = STEP if STEP in kinds else CONST
        axes = [self._row_axes(shape_of(atom)) for atom in eqn.outvars]
        if not any(axes):
            if self.mentioned_in(eqn.params):
                raise NotProvenError("reads the number of rows, which a fold changes")
            return [base] * len(axes)
        return [self._made_rows(eqn, base, found) for found in axes]

    def _row_axes(self, shape: tuple) -> list[int]:
        return [axis for axis, size in enumerate(shape) if mentions(size, self.symbol)]

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
        if name not in ("iota", "broadcast_in_dim", "random_bits", "random_split"):
            raise NotProvenError("makes rows from their number alone")
        size = shape_of(eqn.outvars[0])[axis]
        return Rows(axis, 1, _cofactor(size, self.symbol))

    def _check(self, eqn: Any, kinds: list[Kind]) -> None:
        """Hold every rule to the shapes: rows stand where it says, and nowhere else."""
        for atom, kind in zip(eqn.outvars, kinds, strict=True):
            for axis, size in enumerate(shape_of(atom)):
                if isinstance(kind, Rows) and axis == kind.axis:
                    if size != kind.outer * self.symbol * kind.inner:
                        raise NotProvenError("changes the number of rows")
                elif mentions(size, self.symbol):
                    raise NotProvenError("has rows along more than one axis")


def _cofactor(size: Any, symbol: Any) -> Any:
    quotient, remainder = divmod(size, symbol)
    if remainder != 0 or mentions(quotient, symbol):
        raise NotProvenError("makes rows from their number alone")
    return quotient


def _sizes(value: Any) -> Iterator[Any]:
    """Yield everything inside a parameter that may be a size."""
    if hasattr(value, "eqns"):
        jaxpr = getattr(value, "jaxpr", value)
        for atom in (*jaxpr.constvars, *jaxpr.invars, *jaxpr.outvars):
            yield from atom.aval.shape
        for eqn in jaxpr.eqns:
            yield from _sizes(eqn.params)
            for atom in eqn.outvars:
                yield from atom.aval.shape
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _sizes(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _sizes(item)
    elif hasattr(value, "get_vars"):
        yield value
