"""Values and derivatives of a step function, by the loop, by a strategy, and of one large batch.

The loop is run step by step: what is mapped is stacked, and what the steps share has the sum of its
gradients over all steps, as in a Python loop that JAX differentiates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .program import Program
from .scope import Type

LEVELS = ("values", "tangents", "gradients", "second", "second by reverse mode")


def is_inexact(value: Any) -> bool:
    """Say whether an array has derivatives."""
    return bool(jnp.issubdtype(value.dtype, jnp.inexact))


def random_like(value: Any, seed: int) -> np.ndarray:
    """Return numbers of the shape and dtype of an array."""
    rng = np.random.default_rng([seed, 7])
    drawn = rng.normal(size=value.shape)
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        drawn = drawn + 1j * rng.normal(size=value.shape)
    return drawn.astype(value.dtype)


@dataclasses.dataclass(frozen=True)
class Directions:
    """What derivatives are taken along.

    Attributes:
        cotangents: of the inexact outputs, steps stacked in front.
        tangents: of the inexact arguments.
        again: cotangents of the outputs once more, for second derivatives by reverse mode.
    """

    cotangents: list[Any]
    tangents: list[Any]
    again: list[Any]


def derived(function: Callable[..., Any], level: str, args: Sequence[Any]) -> Callable[..., Any]:
    """Return a function of arguments and directions that gives values and derivatives.

    It gives a tuple: the outputs, tangents of the inexact ones (if asked for), gradients of the
    inexact arguments, and their derivatives.
    """
    where = [i for i, arg in enumerate(args) if is_inexact(arg)]

    def run(args: Sequence[Any], directions: Directions) -> Any:
        def of_inexact(parts: Sequence[Any]) -> tuple[list[Any], tuple[Any, ...]]:
            merged = list(args)
            for index, part in zip(where, parts, strict=True):
                merged[index] = part
            outputs = function(*merged)
            return [each for each in outputs if is_inexact(each)], outputs

        def gradients(parts: Sequence[Any]) -> Any:
            _, pull, outputs = jax.vjp(of_inexact, parts, has_aux=True)
            return pull(list(directions.cotangents))[0], outputs

        parts = [args[i] for i in where]
        if level == "values":
            return (of_inexact(parts)[1],)
        if level == "tangents":
            _, moved, outputs = jax.jvp(
                of_inexact, (parts,), (list(directions.tangents),), has_aux=True
            )
            return outputs, moved
        if level == "gradients":
            found, outputs = gradients(parts)
            return outputs, found
        if level == "second":
            found, moved, outputs = jax.jvp(
                gradients, (parts,), (list(directions.tangents),), has_aux=True
            )
            return outputs, found, moved
        found, pull, outputs = jax.vjp(gradients, parts, has_aux=True)
        return outputs, found, pull(list(directions.again))[0]

    return run


jax.tree_util.register_dataclass(Directions, ["cotangents", "tangents", "again"], [])


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came out: groups of arrays, and what each group is."""

    level: str
    groups: tuple[list[Any], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the groups are."""
        return {
            "values": ("value",),
            "tangents": ("value", "tangent"),
            "gradients": ("value", "gradient"),
            "second": ("value", "gradient", "second derivative"),
            "second by reverse mode": ("value", "gradient", "second derivative"),
        }[self.level]


def directions_of(program: Program, args: Sequence[Any], outputs: Sequence[Any]) -> Directions:
    """Return random directions for arguments and outputs of one step."""
    inexact = [arg for arg in args if is_inexact(arg)]
    stacked = [
        jax.ShapeDtypeStruct((program.time, *each.shape), each.dtype)
        for each in outputs
        if is_inexact(each)
    ]
    return Directions(
        [random_like(each, 100 + i) for i, each in enumerate(stacked)],
        [random_like(each, 200 + i) for i, each in enumerate(inexact)],
        [random_like(each, 300 + i) for i, each in enumerate(inexact)],
    )


def take(value: Any, axis: int | None, step: int) -> Any:
    """Return what one step sees of an argument."""
    return value if axis is None else value[(slice(None),) * axis + (step,)]


def _axes(program: Program, args: Sequence[Any]) -> list[int | None]:
    return [axis for axis, arg in zip(program.in_axes(), args, strict=True) if is_inexact(arg)]


class LoopError(Exception):
    """The loop itself does not run: there is nothing to compare with."""


class Loop:
    """The loop over steps, compiled once for a step."""

    def __init__(self, program: Program, step: Callable[..., Any], args: Sequence[Any]) -> None:
        self.program, self.step, self.axes = program, step, _axes(program, args)
        first = [take(arg, axis, 0) for arg, axis in zip(args, program.in_axes(), strict=True)]
        self.outputs = jax.eval_shape(step, *first)
        self.directions = directions_of(program, args, self.outputs)
        self.args, self.example = list(args), first
        self.compiled: dict[Any, Any] = {}
        self.answers: dict[str, Answer] = {}

    def level(self, wanted: str) -> str:
        """Return the most that can be derived, and is wanted.

        Raises:
            LoopError: not even its values can be computed.
        """
        levels = [wanted, "gradients", "tangents", "values"]
        if not any(map(is_inexact, self.outputs)) or not any(map(is_inexact, self.example)):
            levels = ["values"]
        for level in levels[levels.index("values") :] if wanted == "values" else levels:
            try:
                self(level, self.args)
                return level
            except LoopError as error:
                reason = str(error)
        raise LoopError(reason)

    def __call__(self, level: str, args: Sequence[Any], mask: Any = None) -> Answer:
        """Return what the loop gives.

        Raises:
            LoopError: it does not run, whoever is to blame.
        """
        known = self.answers.get(level)
        if known is not None and mask is None and args is self.args:
            return known
        try:
            answer = self._run(level, args, np.ones((), bool) if mask is None else mask)
        except Exception as error:
            raise LoopError(f"{type(error).__name__}: {error}") from None
        if mask is None and args is self.args:
            self.answers[level] = answer
        return answer

    def _run(self, level: str, args: Sequence[Any], mask: Any) -> Answer:
        if level not in self.compiled:
            self.compiled[level] = jax.jit(self._derived(level))
        mask = np.broadcast_to(mask, (self.program.batch, self.program.time))
        steps = []
        for t in range(self.program.time):
            given = [
                take(arg, axis, t) for arg, axis in zip(args, self.program.in_axes(), strict=True)
            ]
            steps.append(self.compiled[level](given, self._of_step(t), mask[:, t]))
        groups = [
            [np.stack([*map(_plain, each)]) for each in zip(*(s[0] for s in steps), strict=True)]
        ]
        if level == "tangents":
            groups.append([np.stack(each) for each in zip(*(s[1] for s in steps), strict=True)])
            return Answer(level, tuple(groups))
        for k in range(1, len(steps[0])):
            parts = zip(*(s[k] for s in steps), strict=True)
            groups.append(
                [
                    np.sum(np.stack(part), 0) if axis is None else np.stack(part, axis)
                    for part, axis in zip(parts, self.axes, strict=True)
                ]
            )
        return Answer(level, tuple(groups))

    def _of_step(self, t: int) -> Directions:
        whole = self.directions
        return Directions(
            [each[t] for each in whole.cotangents],
            [take(each, axis, t) for each, axis in zip(whole.tangents, self.axes, strict=True)],
            [take(each, axis, t) for each, axis in zip(whole.again, self.axes, strict=True)],
        )

    def _derived(self, level: str) -> Callable[..., Any]:
        types = self.program.types()
        rows = [types.get(name) for name in self.program.outputs]

        def run(args: Sequence[Any], directions: Directions, real: Any) -> Any:
            def step(*args: Any) -> Any:
                outputs = zip(self.step(*args), rows, strict=True)
                return tuple(_masked(output, given, real) for output, given in outputs)

            return derived(step, level, args)(args, directions)

        return run


def _masked(output: Any, given: Type | None, real: Any) -> Any:
    """Return an output with zeros where a step is not real; merged rows are always real."""
    if given is None or not given.row_axes:
        keep = real.any()
    elif len(given.row_axes) > 1 or given.small[given.row_axes[0]] != real.size:
        return output
    else:
        keep = real.reshape([-1 if i == given.row_axes[0] else 1 for i in range(output.ndim)])
    return jnp.where(keep, output, jnp.zeros_like(output))


def _plain(value: Any) -> np.ndarray:
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    return np.asarray(value)


def difference(expected: Answer, actual: Answer) -> tuple[str, str, float] | None:
    """Return what differs first: what it is, in words, and by how much; None if nothing does."""
    for name, ours, theirs in zip(expected.names, actual.groups, expected.groups, strict=True):
        for place, (mine, right) in enumerate(zip(ours, theirs, strict=True)):
            if mine.shape != right.shape or mine.dtype != right.dtype:
                text = f"{name} {place} is {mine.dtype}{mine.shape}, not {right.dtype}{right.shape}"
                return name, text, np.inf
            error = _error(mine, right)
            if error:
                text = (
                    f"{name} {place} differs by {error:.3g} where it is {np.abs(right).max():.3g}"
                )
                return name, text, error
    return None


def _error(mine: np.ndarray, right: np.ndarray) -> float:
    """Return how much two arrays differ; 0 if that is rounding, or not to be told."""
    exact = not jnp.issubdtype(right.dtype, jnp.inexact)
    if exact:
        return float(np.abs(mine.astype(float) - right.astype(float)).max()) if right.size else 0.0
    mine, right = (each.astype(np.complex128) for each in (mine, right))
    if not right.size or not np.isfinite(right).all():
        return 0.0
    scale = 1 + np.abs(right).max()
    error = float(np.abs(mine - right).max())
    if np.isnan(error):
        return np.inf
    return error if scale < 1e9 and error > 1e-7 * scale else 0.0


def of_strategy(
    function: Callable[..., Any], level: str, args: Sequence[Any], directions: Directions, mask: Any
) -> Answer:
    """Return what a strategy gives, compiled as a whole."""

    def run(args: Sequence[Any], directions: Directions, mask: Any) -> Any:
        def step(*args: Any) -> Any:
            return function(*args, mask=mask) if mask is not None else function(*args)

        return derived(step, level, args)(args, directions)

    found = jax.jit(run)(list(args), directions, mask)
    return Answer(level, tuple([*map(_plain, group)] for group in found))
