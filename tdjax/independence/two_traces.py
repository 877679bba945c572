"""Two traces of a step, on two numbers of rows, read as one program.

One is the loop's own: the step as it sees its batch of `N` rows. The other is what a fold would
run, on `R` rows. A function can look at the size of its batch and do something else; then the
traces differ in more than sizes, and the proof stops. Where they agree, whatever differs is a
multiple of the number of rows, and so shows which axes hold rows, without guessing from sizes that
happen to be equal.

For example, with `N = 4` and `R = 12`, the step `x.reshape(-1, 2) @ w` on `(rows, 6)`:

    loop:  a: f32[4, 6]    b: f32[12, 2] = reshape a    c: f32[12, 5] = dot_general b w
    fold:  a: f32[12, 6]   b: f32[36, 2] = reshape a    c: f32[36, 5] = dot_general b w
    both:  a: f32[n, 6]    b: f32[3n, 2] = reshape a    c: f32[3n, 5] = dot_general b w

The 12 in both traces is not the same number: `b` has `3n` rows of two, three for each of the rows
(`Rows(axis=0, outer=1, inner=3)`), although `a` of the fold leads with a 12 as well.

Why that is a proof. Let `F_n` be the step on `n` rows. Wanted is, for every row `i` of a fold of
rows `x_1 ... x_R`, taken in any way from batches of `N`,

    F_R(x_1, ..., x_R)[i]  =  F_N(the batch that row i came from)[its place there].

By induction over the equations of the merged program: every value with rows is, row by row, one
function of the inputs' rows, the same in both traces. It holds for the inputs, and a rule lets an
equation pass only if it treats all rows alike and each by itself. The equation is the same in both
traces but for sizes `k * n`: those that stand in shapes along the axis of the rows do no more than
say how many there are; those anywhere else (an exponent, a stride, a literal) would make it another
operation, and are refused. Nothing is assumed of other numbers of rows: only `F_N` and `F_R` run.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from tdjax.core.jaxpr import is_literal, rebuilt, visible_params
from tdjax.independence.kinds import NotProvenError
from tdjax.independence.known import is_whole
from tdjax.independence.sizes import Size, merge_sizes


@dataclasses.dataclass(frozen=True, eq=False)
class Atom:
    """An input or output of an equation: the variable of the large trace, with merged sizes."""

    variable: Any
    shape: tuple
    dtype: Any

    @property
    def aval(self) -> Atom:
        """Stands in for the type of a variable, as the rules read it."""
        return self


@dataclasses.dataclass(frozen=True, eq=False)
class LiteralAtom(Atom):
    """A value that stands in the equation itself.

    Attributes:
        val: the value; of `TwoValues`, if it is a whole number that the traces do not agree on.
    """

    val: Any = None


@dataclasses.dataclass(frozen=True)
class TwoValues:
    """A whole number, or a truth, that depends on the number of rows."""

    small: Any
    large: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Equation:
    """An equation of both traces.

    Attributes:
        small: as the loop's step has it; None where that trace has none, because the operation
            changes nothing there.
        large: as the fold has it.
        params: with sizes that go with the rows in place of numbers.
        sizes: the number of rows in either trace.
    """

    small: Any
    large: Any
    invars: tuple[Atom, ...]
    outvars: tuple[Atom, ...]
    params: dict[str, Any]
    sizes: tuple[Any, Any]

    @property
    def primitive(self) -> Any:
        """The operation."""
        return self.large.primitive

    @property
    def source_info(self) -> Any:
        """Where the operation stands in the user's code."""
        return self.large.source_info


class Merged:
    """A program of both traces; its equations are merged one by one, as they are asked for."""

    def __init__(self, small: Any, large: Any, batch: Any, rows: Any) -> None:
        self.batch, self.rows = batch, rows
        consts = getattr(small, "consts", ()), getattr(large, "consts", ())
        self.small, self.large = getattr(small, "jaxpr", small), getattr(large, "jaxpr", large)
        self._small_of: dict[Any, Any] = {}
        if len(consts[0]) != len(consts[1]) or not all(map(same_array, *consts)):
            raise NotProvenError(
                "closes over arrays that depend on the size of the batch (`np.arange(batch)` is "
                "one; `jnp.arange(batch)` is a part of the program)"
            )
        self.constvars = self._bind(self.small.constvars, self.large.constvars)
        self.invars = self._bind(self.small.invars, self.large.invars)

    @functools.cached_property
    def eqns(self) -> list[Equation]:
        """All equations."""
        return list(self.equations())

    @property
    def outvars(self) -> tuple[Atom, ...]:
        """The outputs, once all equations have been merged."""
        return self._use(self.small.outvars, self.large.outvars)

    def equations(self) -> Iterator[Equation]:
        """Yield the equations in order.

        Raises:
            NotProvenError: at the first where the traces differ in more than the number of rows.
        """
        waiting = iter(self.small.eqns)
        small = next(waiting, None)
        for large in self.large.eqns:
            if small is not None and small.primitive is large.primitive:
                try:
                    yield self._equation(small, large)
                    small = next(waiting, None)
                    continue
                except NotProvenError:
                    if not self._is_identity(large):
                        raise Differs(large, small) from None
            if not self._is_identity(large):
                raise Differs(large, small)
            yield self._identity(large)
        if small is not None:
            raise Differs(small, None)

    def _equation(self, small: Any, large: Any) -> Equation:
        invars = self._use(small.invars, large.invars)
        ours, theirs = visible_params(small), visible_params(large)
        # JAX remembers inner programs, with the mesh that was in scope when they were traced first.
        params = {
            name: value if name == "ctx_mesh" else self._value(ours[name], value)
            for name, value in theirs.items()
        }
        outvars = self._bind(small.outvars, large.outvars)
        return Equation(small, large, invars, outvars, params, (self.batch, self.rows))

    def _is_identity(self, large: Any) -> bool:
        """Say whether an operation changes nothing on a batch of one row.

        Spreading a value over a batch of one leaves it as it is, and is left out when traced.
        """
        if self.batch != 1 or large.primitive.name != "broadcast_in_dim" or len(large.invars) != 1:
            return False
        (atom,) = large.invars
        shape = large.outvars[0].aval.shape
        if is_literal(atom) or tuple(large.params["broadcast_dimensions"]) != (*range(len(shape)),):
            return False
        sizes = zip(self._small_of[atom].aval.shape, shape, strict=True)
        return all(small in (size, 1) for small, size in sizes)

    def _identity(self, large: Any) -> Equation:
        (atom,), (output,) = large.invars, large.outvars
        small = self._small_of[atom]
        self._small_of[output] = small
        merged = self._atom(small, output)
        params = dict(large.params, shape=merged.shape)
        inputs = (self._atom(small, atom),)
        return Equation(None, large, inputs, (merged,), params, (self.batch, self.rows))

    def _bind(self, small: Sequence[Any], large: Sequence[Any]) -> tuple[Atom, ...]:
        if len(small) != len(large):
            raise NotProvenError("has another form for another size of the batch")
        self._small_of.update(zip(large, small, strict=True))
        return tuple(map(self._atom, small, large))

    def _use(self, small: Sequence[Any], large: Sequence[Any]) -> tuple[Atom, ...]:
        if len(small) != len(large):
            raise NotProvenError("has another form for another size of the batch")
        return tuple(map(self._used, small, large))

    def _used(self, small: Any, large: Any) -> Atom:
        if is_literal(small) != is_literal(large):
            raise NotProvenError("depends on the size of the batch")
        if is_literal(large):
            return LiteralAtom(None, (*large.aval.shape,), large.aval.dtype, _literal(small, large))
        if self._small_of[large] is not small:
            raise NotProvenError("has other inputs for another size of the batch")
        return self._atom(small, large)

    def _atom(self, small: Any, large: Any) -> Atom:
        return self._typed(large, small.aval, large.aval)

    def _typed(self, variable: Any, ours: Any, theirs: Any) -> Atom:
        if len(ours.shape) != len(theirs.shape) or ours.dtype != theirs.dtype:
            raise NotProvenError("has another type for another size of the batch")
        return Atom(variable, self._shape(ours.shape, theirs.shape), theirs.dtype)

    def _shape(self, small: tuple, large: tuple) -> tuple:
        if small == large:
            return large
        return tuple(
            merge_sizes(ours, theirs, self.batch, self.rows)
            for ours, theirs in zip(small, large, strict=True)
        )

    def _value(self, small: Any, large: Any) -> Any:
        """Return a parameter of both traces, sizes merged, programs merged."""
        if hasattr(large, "eqns"):
            return Merged(small, large, self.batch, self.rows)
        if isinstance(large, (tuple, list)) and type(small) is type(large):
            if len(small) != len(large):
                raise NotProvenError("has another form for another size of the batch")
            return rebuilt(large, map(self._value, small, large))
        if small is large:
            return large
        if isinstance(large, (np.ndarray, np.generic, jax.Array)):
            if not same_array(small, large):
                raise NotProvenError("depends on the size of the batch")
            return large
        if _is_size(small) and _is_size(large):
            return merge_sizes(small, large, self.batch, self.rows)
        if isinstance(large, jax.core.ShapedArray) and isinstance(small, jax.core.ShapedArray):
            return self._typed(None, small, large)
        if small != large and not _is_same_callback(small, large):
            raise NotProvenError("depends on the size of the batch")
        return large


class Differs(NotProvenError):
    """The traces part ways; carries the equation where they do."""

    def __init__(self, eqn: Any, other: Any) -> None:
        self.eqn = eqn
        instead = f" (there, `{other.primitive.name}`)" if other is not None else ""
        same = other is not None and other.primitive is eqn.primitive
        blocks = eqn.primitive.name in ("reshape", "slice")
        advice = (
            " (to compute rows in blocks, write the step for one row under `jax.vmap`, and take "
            "`Fold(chunk_size=...)`)"
        )
        super().__init__(
            "depends on the number of rows, which a fold changes" + advice * blocks
            if same
            else f"does not occur in this place for a batch of another size{instead}"
        )


def _is_same_callback(small: Any, large: Any) -> bool:
    """Say whether two callbacks run the same code on the same values: a trace may make its own."""
    ours, theirs = (getattr(each, "callback_func", None) for each in (small, large))
    if not inspect.isfunction(ours) or not inspect.isfunction(theirs):
        return False
    cells = ours.__closure__ or (), theirs.__closure__ or ()
    try:
        held = [[cell.cell_contents for cell in each] for each in cells]
    except ValueError:  # something that it names is not there yet
        return False
    return (
        ours.__code__ is theirs.__code__
        and ours.__globals__ is theirs.__globals__
        and ours.__defaults__ is theirs.__defaults__ is None
        and ours.__kwdefaults__ is theirs.__kwdefaults__ is None
        and all(first is second for first, second in zip(*held, strict=True))
        and small.in_tree == large.in_tree
    )


def _literal(small: Any, large: Any) -> Any:
    """Return the value of a literal of both traces."""
    if same_array(small.val, large.val):
        return large.val
    whole = all(is_whole(each.aval.dtype) and not each.aval.shape for each in (small, large))
    if not whole or small.aval.dtype != large.aval.dtype:
        raise NotProvenError("depends on the number of rows, which a fold changes")
    return TwoValues(small.val, large.val)


def _is_size(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or hasattr(value, "get_vars")


def same_array(first: Any, second: Any) -> bool:
    """Say whether two constants are one array, or known to hold the same."""
    if first is second:
        return True
    if isinstance(first, jax.core.Tracer) or isinstance(second, jax.core.Tracer):
        return False
    if getattr(first, "shape", ()) != getattr(second, "shape", ()):
        return False
    if jax.dtypes.issubdtype(getattr(first, "dtype", np.float32), jax.dtypes.extended):
        return False
    ours, theirs = np.asarray(first), np.asarray(second)
    return ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()


def goes_with_rows(value: Any) -> bool:
    """Say whether the number of rows stands anywhere in a parameter or a program."""
    if isinstance(value, Merged):
        inside = [atom for eqn in value.eqns for atom in (*eqn.invars, *eqn.outvars)]
        atoms = (*value.constvars, *value.invars, *inside, *value.outvars)
        return any(
            goes_with_rows(atom.shape) or isinstance(getattr(atom, "val", None), TwoValues)
            for atom in atoms
        ) or any(goes_with_rows(eqn.params) for eqn in value.eqns)
    return _stands_in(value, goes_with_rows)


def follows_rows(value: Any) -> bool:
    """Say whether the number of rows stands in a parameter, programs in it left out."""
    return not isinstance(value, Merged) and _stands_in(value, follows_rows)


def _stands_in(value: Any, inside: Callable[[Any], bool]) -> bool:
    if isinstance(value, dict):
        return any(map(inside, value.values()))
    if isinstance(value, Atom):
        return inside(value.shape)
    if isinstance(value, (tuple, list)):
        return any(map(inside, value))
    return isinstance(value, Size)
