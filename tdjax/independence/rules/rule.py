"""What a rule is, and what rules share.

A rule takes an equation (sizes that go with the rows are `Size`s in it) and the kinds of its
inputs, of which at least one has rows, and returns the kinds of its outputs; or raises
`NotProvenError` with the reason. A rule for an equation that holds programs takes the analysis
first, to follow them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tdjax.independence.kinds import CONST, Kind, NotProvenError, Rows


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One equation with the kinds of its inputs and outputs, and what runs inside it."""

    eqn: Any
    inputs: tuple[Kind, ...]
    outputs: tuple[Kind, ...]
    inner: tuple[Step, ...] = ()


class Follows(Protocol):
    """What follows the rows through a program, as rules for nested programs are given it."""

    @property
    def within(self) -> frozenset[Any]:
        """The functions whose derivative rules are being followed."""

    @property
    def checked(self) -> set[Any]:
        """The derivative rules that have been followed already."""

    def run(self, program: Any, inputs: Sequence[Kind]) -> tuple[list[Kind], tuple[Step, ...]]:
        """Return the kinds of a program's outputs, and of everything on the way."""

    def inside(self, function: Any, sums: bool = False) -> Follows:
        """Return the same for the derivative rule of a function, where sums may appear."""


Rule = Callable[[Any, list[Kind]], list[Kind]]
NestedRule = Callable[[Follows, Any, list[Kind]], tuple[list[Kind], tuple[Step, ...]]]


def shape_of(atom: Any) -> tuple:
    """Return the shape of an equation's input or output."""
    return tuple(atom.aval.shape)


def every_output(eqn: Any, kind: Kind) -> list[Kind]:
    """Return the same kind for all outputs of an equation."""
    return [kind] * len(eqn.outvars)


def same_rows(kinds: list[Kind]) -> Rows:
    """Return the one place where all inputs that have rows have them."""
    rows = {kind for kind in kinds if isinstance(kind, Rows)}
    if len(rows) > 1:
        raise NotProvenError("combines values whose rows lie along different axes")
    (only,) = rows
    return only


def only_first_has_rows(kinds: list[Kind], what: str) -> Rows:
    """Return the rows of the first input, and demand that the others are shared."""
    first, *others = kinds
    if isinstance(first, Rows) and all(kind == CONST for kind in others):
        return first
    raise NotProvenError(what)


def keep_off(kind: Rows, axes: Any, what: str) -> None:
    """Demand that an operation along `axes` does not run along the rows."""
    if kind.axis in tuple(axes):
        raise NotProvenError(what)
