"""Says whether a step function depends on other rows, by calling it on the rows of all steps."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .derived import Answer, Loop, difference, is_inexact, of_strategy
from .program import Array, Program


def depends(program: Program) -> bool:
    """Say whether one call on the rows of all steps is not the loop, in values or derivatives.

    More rows fill up the batch, as they do in blocks: copies that no gradient leads to.
    """
    return any(_differs(program, "second", draw, extra) for draw, extra in ((0, 1), (1, 2), (2, 0)))


def depends_inside(program: Program) -> bool:
    """Say whether anything on the way, that does not show in the outputs, depends on other rows."""
    values = tuple(node.target for node in program.nodes if node.types is not None)
    return _differs(dataclasses.replace(program, outputs=values), "values", 0, 1)


def _differs(program: Program, wanted: str, draw: int, extra: int) -> bool:
    step = program.step()
    args = _same_steps(program, program.args(draw))
    loop = Loop(program, step, args)
    try:
        merges = _merges(program, step, args, extra, loop("values", loop.args).groups[0])
        if merges is None:
            return True
        level = loop.level(wanted)
        expected = loop(level, loop.args)
        function = one_batch(program, step, extra, merges)
        actual = of_strategy(function, level, args, loop.directions, None)
    except Exception:
        return True  # it takes no batch of another size, or does not run at all
    pairs = _added_up(program, args, expected), _added_up(program, args, actual)
    return difference(*pairs) is not None


def _same_steps(program: Program, args: Sequence[Any]) -> list[Any]:
    """Return arguments in which what a step has for all its rows is the same in all steps."""
    return [
        arg if array.axis is None or array.rows else jnp.stack([arg[0]] * program.time)
        for arg, array in zip(args, program.arrays, strict=True)
    ]


def _merges(
    program: Program, step: Any, args: Sequence[Any], extra: int, expected: Sequence[np.ndarray]
) -> list[int] | None:
    """Return for every output what its rows are merged with, before them; None if nothing fits."""
    types = program.types()
    choices = []
    for name in program.outputs:
        axes = types[name].row_axes if name in types else ()
        factor = types[name].small[axes[0]] // program.batch if len(axes) == 1 else 1
        choices.append([n for n in range(1, factor + 1) if factor % n == 0])
    for merges in itertools.product(*choices):
        function = one_batch(program, step, extra, merges)
        values = jax.jit(lambda args, run=function: run(*args))(list(args))
        found = Answer("values", ([*map(_data, values)],))
        if difference(Answer("values", (list(expected),)), found) is None:
            return list(merges)
    return None


def _data(value: Any) -> np.ndarray:
    keys = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(value) if keys else value)


def one_batch(
    program: Program, step: Callable[..., Any], extra: int, merges: Sequence[int]
) -> Callable[..., Any]:
    """Return the step over time by one call on all rows and `extra` copies, whatever it mixes."""
    batch, time = program.batch, program.time
    types = program.types()

    def merged(array: Array, value: Any) -> Any:
        if array.axis is None:
            return value
        if not array.rows:
            return value[0]
        value = jnp.moveaxis(jnp.asarray(value), array.axis, 0)
        value = value.reshape(time * batch, *value.shape[2:])
        copies = jnp.concatenate([value[-1:]] * max(extra, 1))[:extra]
        if is_inexact(value):
            copies = jax.lax.stop_gradient(copies)
        return jnp.concatenate([value, copies])

    def apart(name: str, outer: int, value: Any) -> Any:
        axes = types[name].row_axes if name in types else ()
        if not axes:
            return jnp.broadcast_to(value, (time, *value.shape))
        (axis,) = axes
        before, after = value.shape[:axis], value.shape[axis + 1 :]
        value = value.reshape(*before, outer, time * batch + extra, -1, *after)
        value = jnp.take(value, jnp.arange(time * batch), axis + 1)
        value = value.reshape(*before, outer, time, batch, -1, *after)
        return jnp.moveaxis(value, axis + 1, 0).reshape(time, *before, -1, *after)

    def run(*args: Any) -> tuple[Any, ...]:
        values = [merged(*pair) for pair in zip(program.arrays, args, strict=True)]
        outputs = zip(program.outputs, merges, step(*values), strict=True)
        return tuple(apart(*each) for each in outputs)

    return run


def _added_up(program: Program, args: Sequence[Any], answer: Answer) -> Answer:
    """Return an answer in which steps are summed where all rows of a step have one value."""
    if answer.level in ("values", "tangents"):
        return answer
    moving = [array for array, arg in zip(program.arrays, args, strict=True) if is_inexact(arg)]
    groups = [answer.groups[0]]
    for group in answer.groups[1:]:
        groups.append(
            [
                value if array.axis is None or array.rows else value.sum(0)
                for array, value in zip(moving, group, strict=True)
            ]
        )
    return Answer(answer.level, tuple(groups))
