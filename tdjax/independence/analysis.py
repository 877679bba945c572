"""Follows the rows through the equations of a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tdjax.core.jaxpr import effects_of, is_literal, scan_counts, source_line
from tdjax.independence.kinds import CONST, STEP, SUM, Kind, NotProvenError, Rows
from tdjax.independence.known import Known, computed, is_whole, literal
from tdjax.independence.row_numbers import (
    Coordinates,
    Made,
    Numbers,
    counter_of,
    numbers,
    plain_kind,
    recorded,
)
from tdjax.independence.rules import table  # noqa: F401  (the rules are its lines)
from tdjax.independence.rules.derivatives import NOT_ZERO
from tdjax.independence.rules.rule import (
    End,
    Form,
    Inner,
    Step,
    Traits,
    every_output,
    shape_of,
    traits_of,
)
from tdjax.independence.rules.sums import makes_sum, of_sums
from tdjax.independence.rules.zeros import solves_that_add
from tdjax.independence.sizes import ROWS, Size
from tdjax.independence.two_traces import Differs, Merged, TwoValues, follows_rows, goes_with_rows

_CALLS = (Form.CALL, Form.REMAT)
_NO_RULE = "has no rule that says where it takes the rows"
_RUN_ONCE = (*_CALLS, Form.CUSTOM, Form.BRANCH)
_HARMLESS = {"DebugEffect"}
_NUMBERS_ROWS = "numbers the rows, which a fold renumbers"
_INSTEAD = (
    "(they may only lead a row to itself: `x[jnp.arange(batch), i]`, `x.at[jnp.arange(batch), i]`; "
    "for all else write the step for one row, under `jax.vmap`, or use `jnp.take_along_axis`)"
)


class ObstacleError(NotProvenError):
    """The reason why the proof stops, with the operation and its source line."""

    def __init__(self, eqn: Any, reason: str) -> None:
        self._set(eqn.primitive.name, source_line(eqn), reason)

    def _set(self, operation: str, line: str, reason: str) -> None:
        self.operation, self.line, self.reason = operation, line, reason
        place = f" at {line}" if line else ""
        super().__init__(f"`{operation}`{place} {reason}")

    def seen_from(self, eqn: Any) -> ObstacleError:
        """Return the same obstacle with the line of the call around it, if it has none itself."""
        if not self.line:
            self._set(self.operation, source_line(eqn), self.reason)
        return self


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The rules at work.

    Attributes:
        sums: whether sums over all rows may appear, as in the gradient of a shared array.
        depth: how many derivative rules, each inside the other, are being followed.
        checked: the calls of custom rules, as `rules.derivatives` knows them, that hold already.
        called: whether the program is a part of another, which is told what is known.
    """

    sums: bool = False
    depth: int = 0
    called: bool = False
    checked: set[Any] = dataclasses.field(default_factory=set)

    def inside(self, sums: bool = False) -> Analysis:
        """Return the same for a derivative rule, in which sums over rows may appear."""
        return Analysis(sums or self.sums, self.depth + 1, checked=self.checked)

    def prove(self, program: Merged, inputs: Sequence[Kind]) -> tuple[list[Kind], tuple[Step, ...]]:
        """Return the kinds of the outputs of a step, and of everything on the way.

        Raises:
            NotProvenError: rows may mix, an equation has no rule, a linear solve adds to gradients
                for rows that only fill a block, or an output tells the rows from each other by
                their numbers.
        """
        outputs, steps = self.run(program, inputs)
        for eqn in solves_that_add(program.large):
            raise ObstacleError(eqn, f"has {NOT_ZERO}")
        return [_returned(kind) for kind in outputs], steps

    def run(self, program: Merged, inputs: Sequence[Kind]) -> tuple[list[Kind], tuple[Step, ...]]:
        """Return the kinds of the outputs, and of everything on the way.

        Raises:
            ObstacleError: an equation whose rows may mix, or that has no rule.
        """
        kinds: dict[Any, Any] = {atom.variable: CONST for atom in program.constvars}
        kinds.update(zip((atom.variable for atom in program.invars), inputs, strict=True))

        def read(atom: Any) -> Any:
            return _of_literal(atom) if is_literal(atom) else kinds[atom.variable]

        steps = []
        try:
            for eqn in program.equations():
                step, found = self._equation(eqn, [read(atom) for atom in eqn.invars])
                for atom, kind in zip(eqn.outvars, found, strict=True):
                    kinds[atom.variable] = kind
                steps.append(step)
        except Differs as error:
            unknown = traits_of(error.eqn.primitive) == Traits()
            raise ObstacleError(error.eqn, _NO_RULE if unknown else str(error)) from None
        outputs = [read(atom) for atom in program.outvars]
        if not self.called:
            outputs = [_unmade(kind) for kind in outputs]
        return outputs, tuple(steps)

    def _equation(self, eqn: Any, given: list[Any]) -> tuple[Step, list[Any]]:
        """Return an equation with its kinds, and those of its outputs with what is known of them.

        Args:
            eqn: the equation.
            given: the kinds of its inputs, `Made` where they are known.
        """
        try:
            traits = traits_of(eqn.primitive)
            known = self._known(eqn, given)
            if known is not None and known[0].depends:
                found: list[Any] = [
                    numbers(each, shape_of(atom), given)
                    for each, atom in zip(known, eqn.outvars, strict=True)
                ]
                self._check_outputs(eqn, found)
                return _step(eqn, given, found), found
            step, found = self._follow(eqn, self._readable(eqn, given, traits), traits)
            if known is not None:
                found = [Made(*pair) for pair in zip(step.outputs, known, strict=True)]
            return step, found
        except ObstacleError as error:
            raise error.seen_from(eqn) from None
        except NotProvenError as error:
            raise ObstacleError(eqn, str(error)) from None
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # Another JAX may call a parameter otherwise: what is not understood proves nothing.
            reason = f"has a form that its rule does not know ({type(error).__name__}: {error})"
            raise ObstacleError(eqn, reason) from error

    def _follow(self, eqn: Any, kinds: list[Kind], traits: Traits) -> tuple[Step, list[Any]]:
        """Return an equation with its kinds, by the rule for it, and those of its outputs."""
        inner: Inner = ()
        found: list[Any] = []
        if traits.form not in _RUN_ONCE and not effects_of(eqn.large) <= _HARMLESS:
            raise NotProvenError("has side effects, which a fold would not have step by step")
        if traits.nested is not None:
            called = traits.form in _CALLS
            found, inner = traits.nested(dataclasses.replace(self, called=called), eqn, kinds)
            outputs = [_unmade(kind) for kind in found]
        elif self.sums and SUM in kinds:
            outputs = of_sums(eqn, kinds, traits)
        elif self.sums and makes_sum(eqn, kinds):
            outputs = every_output(eqn, SUM)
        elif any(isinstance(kind, Rows) for kind in kinds):
            if traits.rows is None:
                raise NotProvenError(_NO_RULE)
            outputs = traits.rows(eqn, kinds)
        else:
            outputs = self._without_rows(eqn, kinds, traits)
        self._check_outputs(eqn, outputs)
        self._check_params(eqn, kinds, outputs, traits)
        return _step(eqn, kinds, outputs, inner), found or outputs

    def _known(self, eqn: Any, given: list[Any]) -> list[Known] | None:
        """Return what is known of the outputs, if all inputs are known."""
        if not all(isinstance(kind, (Made, Numbers)) for kind in given):
            return None
        counts = eqn.primitive.name == "iota" and isinstance(
            shape_of(eqn.outvars[0])[eqn.params["dimension"]], Size
        )
        return computed(eqn, [kind.known for kind in given], counts)

    def _readable(self, eqn: Any, given: list[Any], traits: Traits) -> list[Any]:
        """Return the kinds of the inputs as the rule of an equation may see them.

        Raises:
            ObstacleError: it would compute with the numbers of rows.
        """
        if traits.form in _CALLS:
            return given
        places = range(len(given))
        takes = set(places[traits.numbers] if traits.numbers is not None else ())
        if eqn.primitive.name == "scan":
            takes.update(places[: sum(scan_counts(eqn))])
        kinds: list[Any] = []
        for place, kind in enumerate(given):
            if place not in takes and isinstance(kind, (Numbers, Coordinates)):
                kinds.append(_without_numbers(eqn, kind))
            else:
                kinds.append(_unmade(kind))
        return kinds

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
            raise NotProvenError(_NUMBERS_ROWS)
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
        So is a reduction whose program reads it; programs that rules follow speak for themselves.
        """
        for name, value in eqn.params.items():
            if traits.nested is None and isinstance(value, Merged) and goes_with_rows(value):
                raise NotProvenError(f"reads the number of rows ({name}), which a fold changes")
            if not follows_rows(value):
                continue
            end = traits.follows.get(name)
            if end is None:
                raise NotProvenError(f"reads the number of rows ({name}), which a fold changes")
            if traits.nested is None and end is not End.NEITHER:
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


def _of_literal(atom: Any) -> Any:
    """Return the kind of a number that stands in the program."""
    value = atom.val
    if isinstance(value, TwoValues):
        known = literal(value.small, value.large, atom.dtype)
        return numbers(known, ())
    if is_whole(atom.dtype) and not atom.shape:
        return Made(CONST, literal(value, value, atom.dtype))
    return CONST


def _step(eqn: Any, inputs: Sequence[Any], outputs: Sequence[Any], inner: Inner = ()) -> Step:
    return Step(eqn, tuple(map(recorded, inputs)), tuple(map(recorded, outputs)), inner)


def _unmade(kind: Any) -> Kind:
    """Return a kind without what is known of the values."""
    found: Kind = kind.kind if isinstance(kind, Made) else kind
    return found


def _without_numbers(eqn: Any, kind: Any) -> Kind:
    """Return the kind of an input that is the same for all rows after all.

    Raises:
        ObstacleError: it is not.
    """
    if (plain := plain_kind(kind)) is not None:
        return plain
    counter = counter_of(kind)
    if counter is None:
        raise NotProvenError("depends on the number of rows, which a fold changes")
    reader = ObstacleError(eqn, "")
    place = f" at {reader.line}" if reader.line else ""
    raise ObstacleError(
        counter, f"{_NUMBERS_ROWS}, and `{reader.operation}`{place} computes with them {_INSTEAD}"
    )


def _returned(kind: Any) -> Kind:
    """Return the kind of an output of a step, which may not tell rows by their numbers."""
    if (plain := plain_kind(kind)) is not None:
        return plain
    counter = counter_of(kind)
    if counter is None:
        raise NotProvenError("depends on the number of rows, which a fold changes")
    raise ObstacleError(counter, f"{_NUMBERS_ROWS}, and the function returns them {_INSTEAD}")
