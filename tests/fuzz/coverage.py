"""What the builders reach: primitives, and parameters whose numbers follow the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.core.jaxpr import all_equations

from .derived import is_inexact
from .generate import example
from .program import Program
from .scope import Unfit, quiet


@dataclasses.dataclass
class Reached:
    """What the examples of a primitive contain.

    Attributes:
        primitives: the names of all primitives.
        numbers: the parameters, as (primitive, name), that hold whole numbers.
        following: those whose numbers were others for another batch.
    """

    primitives: set[str] = dataclasses.field(default_factory=set)
    numbers: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    following: set[tuple[str, str]] = dataclasses.field(default_factory=set)


def reached(primitive: str, seeds: Sequence[int], follow: float) -> Reached:
    """Return what some examples of a primitive contain, forward and backward."""
    found = Reached()
    for seed in seeds:
        try:
            program = example(primitive, seed, follow)
        except Unfit:
            continue
        with quiet():
            _look(program, found)
    return found


def _look(program: Program, found: Reached) -> None:
    traces = []
    for rows in (program.batch, 2 * program.batch + 1):
        try:
            traces.append([*all_equations(_trace(program, rows))])
        except Exception:  # it takes no batch of this size, or has no gradient
            return
    small, large = traces
    for eqn in small:
        found.primitives.add(eqn.primitive.name)
        for name, value in eqn.params.items():
            if any(True for _ in _numbers(value)):
                found.numbers.add((eqn.primitive.name, name))
    for ours, theirs in zip(small, large, strict=False):
        if ours.primitive is not theirs.primitive:
            break
        for name, value in ours.params.items():
            if [*_numbers(value)] != [*_numbers(theirs.params.get(name))]:
                found.following.add((ours.primitive.name, name))


def _trace(program: Program, rows: int) -> Any:
    step = program.step()

    def seen(array: Any, value: Any) -> Any:
        shape = value.shape
        if array.axis is not None:
            shape = shape[: array.axis] + shape[array.axis + 1 :]
        shape = (rows, *shape[1:]) if array.rows else shape
        return jax.ShapeDtypeStruct(shape, value.dtype)

    given = [seen(*pair) for pair in zip(program.arrays, program.args(), strict=True)]

    def both(*args: Any) -> Any:
        where = [i for i, arg in enumerate(args) if is_inexact(arg)]

        def of_inexact(*parts: Any) -> Any:
            merged = dict(zip(where, parts, strict=True))
            outputs = step(*(merged.get(i, arg) for i, arg in enumerate(args)))
            return [each for each in outputs if is_inexact(each)]

        outputs, pull = jax.vjp(of_inexact, *(args[i] for i in where))
        return outputs, pull([jnp.ones_like(each) for each in outputs])

    try:
        return jax.make_jaxpr(lambda *args: (step(*args), both(*args)))(*given)
    except Exception:
        return jax.make_jaxpr(step)(*given)


def _numbers(value: Any) -> Iterator[int]:
    """Yield the whole numbers in a parameter."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, (int, np.integer)):
        yield int(value)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _numbers(each)
    elif dataclasses.is_dataclass(value) and not hasattr(value, "eqns"):
        for field in dataclasses.fields(value):
            yield from _numbers(getattr(value, field.name, None))
