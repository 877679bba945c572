"""What the builders reach: primitives, and parameters whose numbers follow the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.core.jaxpr import all_equations

from .derived import is_inexact
from .generate import example
from .program import Program
from .scope import Unfit, quiet


def follows(primitive: str, parameter: str, tries: int = 90) -> bool:
    """Say whether a primitive's builders write lines in which a parameter follows the batch."""
    for seed in range(tries):
        try:
            program = example(primitive, seed, follow=0.5)
        except Unfit:
            continue
        with quiet():
            if (primitive, parameter) in _following(program):
                return True
    return False


def _following(program: Program) -> Iterator[tuple[str, str]]:
    """Yield primitives and parameters that are others for a batch of another size."""
    try:
        small, large = (_trace(program, rows) for rows in (program.batch, 2 * program.batch + 1))
    except Exception:  # it takes no batch of this size
        return
    for ours, theirs in zip(all_equations(small), all_equations(large), strict=False):
        if ours.primitive is not theirs.primitive:
            return
        for name, value in ours.params.items():
            if [*_numbers(value)] != [*_numbers(theirs.params.get(name))]:
                yield ours.primitive.name, name


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
