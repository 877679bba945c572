"""How far answers lie apart, and how a message says so."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from tdjax.core.arrays import is_inexact
from tdjax.core.call import Call, trace
from tdjax.core.errors import describe
from tdjax.core.jaxpr import all_equations
from tdjax.strategies import Strategy
from tdjax.testing.answers import Answers, largest, wide_numpy
from tdjax.testing.loop import PlainLoop

TOLERANCE = {
    "float64": 1e-10,
    "complex128": 1e-10,
    "float32": 5e-5,
    "complex64": 5e-5,
    "float16": 1e-2,
    "bfloat16": 5e-2,
}
"""How far numbers may lie apart, relative to them and to the largest of their array."""

_FLOAT8 = 0.2
_SHOWN = 3  # differing leaves in a message


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """How far numbers may lie apart.

    Attributes:
        table: for each name of a dtype.
        least: for all numbers, because of the coarsest dtype that a step computes with.
    """

    table: dict[str, float]
    least: float

    @staticmethod
    def of(tolerance: Any, call: Call) -> Tolerances:
        table = TOLERANCE
        if isinstance(tolerance, dict):
            table = {**TOLERANCE, **{str(jnp.dtype(k)): v for k, v in tolerance.items()}}
        elif tolerance is not None:
            return Tolerances(dict.fromkeys(TOLERANCE, float(tolerance)), float(tolerance))
        program = trace(call, call.batch)
        atoms = (atom for eqn in all_equations(program.jaxpr) for atom in eqn.outvars)
        names = {str(atom.aval.dtype) for atom in atoms if hasattr(atom.aval, "dtype")}
        coarse = [table[name] for name in names & {"float16", "bfloat16"}]
        coarse += [_FLOAT8] * any("float8" in name for name in names)
        return Tolerances(table, max(coarse, default=0.0))

    def allowed(self, like: Any, expected: np.ndarray, noise: float) -> np.ndarray:
        """Return how far each number may lie from what is expected."""
        if not is_inexact(like):
            return np.zeros(expected.shape)
        limit = max(self.table.get(str(like.dtype), 0.0), self.least)
        size = np.abs(np.where(np.isfinite(expected), expected, 0))
        rest = 32 * float(jnp.finfo(like.dtype).eps) if limit else 0.0
        return limit * (size + largest(size)) + 2 * noise + rest


def compared(
    limits: Tolerances, like: Any, found: Any, expected: Any, noise: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return both as NumPy arrays, their difference, and how far they may lie apart."""
    ours, theirs = wide_numpy(found), wide_numpy(expected)
    if ours.dtype == bool:
        ours, theirs = ours.astype(int), theirs.astype(int)
    with np.errstate(all="ignore"):
        same = (ours == theirs) | ((ours != ours) & (theirs != theirs))
        apart = np.where(same, 0, np.abs(ours.astype(theirs.dtype) - theirs))
    apart = np.where(np.isnan(apart), np.inf, apart)
    return ours, theirs, apart, limits.allowed(like, theirs, noise)


def differences(
    loop: PlainLoop,
    limits: Tolerances,
    found: Answers,
    expected: Answers,
    noise: list[float] | None,
) -> Iterator[str]:
    """Yield a description of every leaf that is not the loop's."""
    if found.tree != expected.tree:
        yield f"  outputs have the structure {found.tree}, the loop's have {expected.tree}"
        return
    call = loop.call
    smooth = [i for i, leaf in enumerate(call.leaves) if is_inexact(leaf)]
    names = [f"output{path}" for path in expected.paths]
    names += [f"gradient of {call.names[i]}" for i in smooth][: len(expected.gradients)]
    axes = [*loop.axes, *(call.axes[i] for i in smooth)]
    demanded = expected.like or expected.leaves
    for place, (name, ours, theirs, like) in enumerate(
        zip(names, found.leaves, expected.leaves, demanded, strict=True)
    ):
        if (ours.shape, ours.dtype) != (like.shape, like.dtype):
            yield f"  {name} is {describe(ours)}, the loop's is {describe(like)}"
            continue
        if place < len(loop.axes):
            rows = loop.rows_of(place)
            row_axis = rows.axis if rows and rows.outer == rows.inner == 1 else None
        else:
            role = call.roles[smooth[place - len(loop.axes)]]
            row_axis = 0 if role in ("rows", "spread") else None
        numbers = compared(limits, like, ours, theirs, noise[place] if noise else 0.0)
        if (numbers[2] > numbers[3]).any():
            where = functools.partial(_step_and_row, axes[place], row_axis)
            yield described(f"{name} ({describe(like)})", numbers, where)


def _step_and_row(axis: int | None, row_axis: int | None, index: tuple[int, ...]) -> str:
    text, rest = "", list(index)
    if axis is not None:
        text = f", step {rest.pop(axis)}"
    return text if row_axis is None else f"{text}, row {rest[row_axis]}"


def described(
    name: str,
    numbers: tuple[np.ndarray, ...],
    where: Callable[[tuple[int, ...]], str],
    words: tuple[str, str] = ("loop", "strategy"),
    among: str = "elements",
) -> str:
    """Return in a line how many numbers differ, by how much at most, and where."""
    ours, theirs, apart, allowed = numbers
    wrong = apart > allowed
    most = np.unravel_index(int(np.argmax(np.where(wrong, apart, -1.0))), apart.shape)
    index = tuple(map(int, most))
    at = f", most at {list(index)}{where(index)}" if index else ""
    return (
        f"  {name} differs in {int(wrong.sum())} of {apart.size} {among}{at}:\n"
        f"    {words[0]} {_number(theirs[most])}, {words[1]} {_number(ours[most])}, "
        f"difference {apart[most]:.3g}, allowed {allowed[most]:.3g}"
    )


def _number(value: Any) -> str:
    return f"{value:.7g}" if np.issubdtype(value.dtype, np.inexact) else str(value)


def message(call: Call, strategy: Strategy, lines: list[str]) -> str:
    """Return what an error says of the arrays that differ, a few of them."""
    left = len(lines) - _SHOWN
    more = [f"  and {left} more arrays"] if left > 0 else []
    name = str(strategy)
    name = name if name.endswith(")") else repr(name)
    heading = f"{call.title}, under {name}, is not the loop:"
    return "\n".join([heading, *lines[:_SHOWN], *more])
