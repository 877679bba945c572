"""What a rule is, and what rules share.

A rule takes an equation (sizes that go with the rows are `Size`s in it) and the kinds of its
inputs, of which at least one has rows, and returns the kinds of its outputs; or raises
`NotProvenError` with the reason. A rule for an equation that holds programs takes the analysis
first, to follow them.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tdjax.independence.kinds import CONST, Kind, NotProvenError, Rows


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One equation with the kinds of its inputs and outputs.

    Attributes:
        eqn: the equation, of both traces.
        inputs, outputs: the kinds.
        inner: the equations of each program that runs inside it, where those are of use: all of
            them for a call, and for loops and branches if there are values of one step in them.
    """

    eqn: Any
    inputs: tuple[Kind, ...]
    outputs: tuple[Kind, ...]
    inner: Inner = ()


Inner = tuple[tuple[Step, ...], ...]
"""The equations of the programs inside an equation."""


class Follows(Protocol):
    """What follows the rows through a program, as rules for nested programs are given it."""

    @property
    def depth(self) -> int:
        """How many derivative rules, each inside the other, are being followed."""

    @property
    def checked(self) -> set[Any]:
        """The calls of custom rules that have been followed already, and hold."""

    def run(self, program: Any, inputs: Sequence[Kind]) -> tuple[list[Kind], tuple[Step, ...]]:
        """Return the kinds of a program's outputs, and of everything on the way."""

    def inside(self, sums: bool = False) -> Follows:
        """Return the same for a derivative rule, in which sums over rows may appear."""


RowRule = Callable[[Any, list[Kind]], list[Kind]]
NestedRule = Callable[[Follows, Any, list[Kind]], tuple[list[Kind], Inner]]


class Form(enum.Enum):
    """What an equation is to those that evaluate a program in a way of their own."""

    OPERATION = "computes its outputs"
    CALL = "calls a program, once"
    REMAT = "calls a program, and again in the backward pass"
    CUSTOM = "calls a program that has a derivative rule of its own"
    LOOP = "repeats a program"
    BRANCH = "runs one of several programs"
    LAYOUT = "says how an array lies on a mesh, and gives it as it is"
    REDUCTION_OVER_DEVICES = "gives the same to all members of a named axis"


class Cost(enum.IntEnum):
    """What an operation costs beside arithmetic, in the order of what that is."""

    FREE = 0
    """Nothing: it moves no data."""
    FUSED = 1
    """Little: XLA computes it where its result is read."""
    SLOW = 2
    """It is fused, and takes several times as long as a sum."""
    WRITTEN = 3
    """Its result is written to memory; its inputs are computed where it reads them."""
    STORED = 4
    """Its inputs are in memory as well: XLA fuses it with nothing."""
    KEPT = 5
    """It is stored, and reading the result is cheaper than to compute it again."""


class End(enum.Enum):
    """Which end of an equation the entries of a parameter belong to."""

    INPUT = "the axes of its first input that has rows"
    OUTPUT = "the last axes of its first output"
    NEITHER = "no axes: its rule holds it to the rows"


@dataclasses.dataclass(frozen=True)
class Traits:
    """What tdjax knows of a primitive; `tdjax.independence.rules.table` has one for each.

    Attributes:
        rows: says where its outputs have rows, given where its inputs have them. Without it,
            nothing with rows may enter.
        nested: the same for an equation that holds programs.
        follows: the parameters in which the number of rows may stand, each with the end whose
            axes its entries are. Only the entry of the rows' axis may: every other number that
            follows the batch makes the operation another one for another batch.
        makes_rows: whether it may make rows from their number alone.
        sums: how it treats a sum over rows: "linear" in its only input, "additive" in all of them,
            "bilinear" in two, in the "first" as places say, a "quotient", a "choice", or the
            "solution" for the last; None: not alike for every part.
        zeros: the inputs that make its outputs zero by being zero, whatever the others are; None:
            those that its treatment of sums tells.
        numbers: the inputs at which its rule knows what to do with `Numbers`, the numbers of rows;
            to others they are given only if they are the same for all rows.
        row_by_row: whether what a step gives to all its rows, beside them, is a place or the like,
            which the rows of many steps cannot have as an array with rows: then each row is taken
            by itself, with what its step gives.
        draws: whether it draws noise from a key.
        batches: whether `jax.vmap` takes every form of it.
        form: what it is to those that evaluate a program in a way of their own.
        cost: what it costs beside arithmetic.
    """

    rows: RowRule | None = None
    nested: NestedRule | None = None
    follows: Mapping[str, End] = dataclasses.field(default_factory=dict)
    makes_rows: bool = False
    sums: str | None = None
    zeros: slice | None = None
    numbers: slice | None = None
    row_by_row: bool = False
    draws: bool = False
    batches: bool = True
    form: Form = Form.OPERATION
    cost: Cost = Cost.FUSED


_TRAITS: dict[str, Traits] = {}
_UNKNOWN = Traits()


def register(*names: str, **traits: Any) -> None:
    """Say what is known of primitives.

    Args:
        names: of the primitives.
        traits: the attributes of `Traits`.

    Raises:
        ValueError: one of them is known already.
    """
    known = sorted(_TRAITS.keys() & set(names))
    if known:
        raise ValueError(f"{', '.join(known)}: known already; `unregister` what is to be replaced.")
    _TRAITS.update(dict.fromkeys(names, Traits(**traits)))


def unregister(*names: str) -> None:
    """Forget primitives that were registered."""
    for name in names:
        del _TRAITS[name]


def traits_of(primitive: Any) -> Traits:
    """Return what is known of a primitive."""
    return _TRAITS.get(primitive.name, _UNKNOWN)


def surely_batches(primitive: Any) -> bool:
    """Say whether `jax.vmap` is known to take every form of a primitive."""
    traits = traits_of(primitive)
    return traits.batches and (traits.rows is not None or traits.nested is not None)


def known_primitives() -> tuple[str, ...]:
    """Return the names of all primitives that something is known of."""
    return tuple(_TRAITS)


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
