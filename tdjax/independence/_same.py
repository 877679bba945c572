"""Whether a concrete trace is the symbolic one with the number of rows filled in.

A function can ask whether its batch size is an int and do something else then. The proof holds for
the symbolic trace; it carries over to the program that runs only if that is the same program.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from tdjax._equation import is_literal, source_line, visible_params
from tdjax._symbolic import is_symbolic, substitute
from tdjax.independence._kinds import NotProvenError


class Comparison:
    """Compares two traces, equation by equation, with `symbol` standing for `value`."""

    def __init__(self, symbol: Any, value: Any) -> None:
        self.symbol, self.value = symbol, value
        self._sizes: dict[Any, Any] = {}

    def _fill_in(self, size: Any) -> Any:
        if not is_symbolic(size):
            return size
        if size not in self._sizes:
            self._sizes[size] = substitute(size, self.symbol, self.value)
        return self._sizes[size]

    def check(self, symbolic: Any, concrete: Any) -> None:
        """Raise NotProvenError at the first difference."""
        if len(symbolic.eqns) != len(concrete.eqns):
            raise NotProvenError(
                "the function does something else for a batch whose size it knows than for one of "
                f"any size ({len(concrete.eqns)} operations, not {len(symbolic.eqns)})"
            )
        names: dict[Any, Any] = {}
        ours, theirs = (
            (*program.constvars, *program.invars) for program in (symbolic, concrete)
        )
        self._bind(names, ours, theirs, None)
        for left, right in zip(symbolic.eqns, concrete.eqns, strict=True):
            if left.primitive is not right.primitive:
                self._differ(right, f"`{left.primitive.name}` for a batch of any size")
            self._use(names, left.invars, right)
            self._params(left, right)
            self._bind(names, left.outvars, right.outvars, right)
        for left, right in zip(symbolic.outvars, concrete.outvars, strict=True):
            if not self._same_atom(names, left, right):
                raise NotProvenError("the function returns something else for a batch of any size")

    def check_consts(self, symbolic: Any, concrete: Any) -> None:
        """Raise NotProvenError unless both traces close over the same arrays."""
        if len(symbolic) != len(concrete) or not all(map(_same_const, symbolic, concrete)):
            raise NotProvenError("the function closes over arrays that depend on its batch size")

    def _bind(self, names: dict, left: Any, right: Any, eqn: Any) -> None:
        if len(left) != len(right):
            raise NotProvenError("the function depends on its batch size in what it closes over")
        for ours, theirs in zip(left, right, strict=True):
            if not self._same_aval(ours.aval, theirs.aval):
                self._differ(eqn, f"{ours.aval} for a batch of any size, not {theirs.aval}")
            names[ours] = theirs

    def _use(self, names: dict, left: Any, eqn: Any) -> None:
        if len(left) != len(eqn.invars) or not all(
            self._same_atom(names, ours, theirs)
            for ours, theirs in zip(left, eqn.invars, strict=True)
        ):
            self._differ(eqn, "other inputs for a batch of any size")

    def _same_atom(self, names: dict, ours: Any, theirs: Any) -> bool:
        if is_literal(ours) or is_literal(theirs):
            both = is_literal(ours) and is_literal(theirs)
            return both and _same_const(ours.val, theirs.val)
        return names[ours] is theirs

    def _same_aval(self, ours: Any, theirs: Any) -> bool:
        shape = tuple(map(self._fill_in, ours.shape))
        return shape == theirs.shape and ours.dtype == theirs.dtype

    def _params(self, left: Any, right: Any) -> None:
        for name, ours in visible_params(left).items():
            if not self._same(ours, right.params.get(name)):
                self._differ(right, f"another `{name}` for a batch of any size")

    def _same(self, ours: Any, theirs: Any) -> bool:
        if is_symbolic(ours):
            return bool(self._fill_in(ours) == theirs)
        if hasattr(ours, "eqns"):
            self.check(getattr(ours, "jaxpr", ours), getattr(theirs, "jaxpr", theirs))
            self.check_consts(getattr(ours, "consts", ()), getattr(theirs, "consts", ()))
            return True
        if isinstance(ours, (tuple, list)):
            if type(ours) is not type(theirs) or len(ours) != len(theirs):
                return False
            return all(map(self._same, ours, theirs))
        if isinstance(ours, (np.ndarray, np.generic, jax.Array)):
            return _same_const(ours, theirs)
        return ours is theirs or bool(ours == theirs)

    def _differ(self, eqn: Any, what: str) -> None:
        where = "its arguments"
        if eqn is not None:
            where = f"`{eqn.primitive.name}` at {source_line(eqn)}"
        raise NotProvenError(
            f"the function does something else for a batch whose size it knows: {where} is {what}"
        )


def _same_const(ours: Any, theirs: Any) -> bool:
    if ours is theirs:
        return True
    if isinstance(ours, jax.core.Tracer) or isinstance(theirs, jax.core.Tracer):
        return False
    if isinstance(ours, jax.Array) and jax.dtypes.issubdtype(ours.dtype, jax.dtypes.extended):
        return False
    first, second = np.asarray(ours), np.asarray(theirs)
    return (
        first.shape == second.shape
        and first.dtype == second.dtype
        and first.tobytes() == second.tobytes()
    )
