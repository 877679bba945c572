"""What `tdjax compare` runs: named workloads, or one function of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.comparison.locate import locate
from tdjax.comparison.session import Job
from tdjax.comparison.steps import steps_of
from tdjax.comparison.subject import Subject, subject

_BLOCKS = 8
_BLOCKS_OF_FEW = 4
_FEW_ROWS = 32
SETS = ("peers", "every")
_PLAIN = ("vmap", "fold", "map", "unroll")


def workload(
    name: str, strategies: Sequence[Any] | str | None, quick: bool, dtype: str | None = None
) -> Job:
    """Return the job of a named workload.

    Args:
        name: one of `tdjax.workloads.names()`.
        strategies: as for `chosen`.
        quick: make its arrays as small as they can be.
        dtype: the floating point dtype of its parameters and inputs; None leaves them.

    Raises:
        ValueError: there is no workload of that name.
    """
    from tdjax import workloads

    found = workloads.get(name)

    def make() -> tuple[Subject, Sequence[Any]]:
        case = found.build(quick)
        description = _describe(case.args, quick, found.description)
        if dtype is not None and (args := _cast(case.args, dtype)) is not case.args:
            case = replace(case, args=args)
            description = f"{description.rstrip('.')}, in {dtype}"
        made = subject(
            case.fun,
            case.args,
            in_axes=case.in_axes,
            out_axes=case.out_axes,
            name=name,
            description=description,
        )
        return made, chosen(strategies, case.args, case.in_axes, blocks=not quick)

    return Job(name, make)


def function(
    reference: str,
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[str],
    in_axes: Any,
    out_axes: Any,
    strategies: Sequence[Any] | str | None,
) -> Job:
    """Return the job of `package.module:name` on random arrays of these shapes.

    Args:
        reference: a function, a Flax module or its class, as `locate` reads it.
        shapes: the arguments' shapes, `(batch, time, *features)`.
        dtypes: their dtypes; one for all, or one each.
        in_axes, out_axes: as for `time_distributed`.
        strategies: as for `chosen`.

    Raises:
        ValueError: it does not exist, or cannot be made.
        TypeError: it is a class of another kind, or cannot be called.
    """
    fun = locate(reference)
    if isinstance(fun, type):
        raise TypeError(
            f"{reference} is a class, and no Flax module; name what it makes, {reference}(...), "
            "or a function"
        )
    if not callable(fun):
        kind = type(fun).__name__
        raise TypeError(f"{reference} is of {kind}, needed a function or a Flax module")

    def make() -> tuple[Subject, Sequence[Any]]:
        args = tuple(_random(i, shape, dtypes) for i, shape in enumerate(shapes))
        made = subject(fun, args, in_axes=in_axes, out_axes=out_axes, name=reference)
        return made, chosen(strategies, args, in_axes)

    return Job(reference, make)


def chosen(
    strategies: Sequence[Any] | str | None, args: Sequence[Any], in_axes: Any, blocks: bool = True
) -> Sequence[Any]:
    """Return the strategies to compare: those that are given, or a set that fits the arguments.

    Args:
        strategies: strategy objects; "peers" for `auto` and what other libraries offer; "every"
            for all that `auto` chooses from; None for the usual ones.
        args, in_axes: what they run on.
        blocks: whether blocked folds are among the usual ones.
    """
    if strategies == "peers":
        return with_peers()
    if strategies == "every":
        return every(args, in_axes)
    assert not isinstance(strategies, str)
    return strategies or usual(args, in_axes, blocks)


def with_peers() -> list[Any]:
    """Return the reference, `auto`, and every rival that is installed."""
    from tdjax.comparison.peers import PEERS
    from tdjax.strategies import parse

    return [parse("vmap"), parse("auto"), *(peer for peer in PEERS if peer.installed)]


def every(args: Sequence[Any], in_axes: Any) -> list[Any]:
    """Return `auto`, and all that it chooses from: the best of them is the best it could do."""
    from tdjax.strategies import candidates, parse

    steps = steps_of(args, in_axes)
    if steps is None:
        return usual(args, in_axes)
    return [parse("auto"), *candidates(steps.batch, steps.time, remat=True)]


def usual(args: Sequence[Any], in_axes: Any, blocks: bool = True) -> list[Any]:
    """Return the strategies to compare when none are named.

    The four plain ones, and folds in 8 blocks of rows, unrolled and scanned; 4 if rows are few.
    """
    from tdjax import Fold
    from tdjax.strategies import parse

    chosen = [parse(name) for name in _PLAIN]
    steps = steps_of(args, in_axes)
    rows = 0 if steps is None else steps.batch * steps.time
    if blocks and rows >= _BLOCKS_OF_FEW:
        size = -(-rows // (_BLOCKS if rows >= _FEW_ROWS else _BLOCKS_OF_FEW))
        chosen += [Fold(chunk_size=size, unroll=True), Fold(chunk_size=size)]
    return chosen


def _random(index: int, shape: tuple[int, ...], dtypes: Sequence[str]) -> jax.Array:
    dtype = jnp.dtype(dtypes[min(index, len(dtypes) - 1)])
    random = np.random.default_rng(index)
    if jnp.issubdtype(dtype, jnp.inexact):
        return jnp.asarray(random.standard_normal(shape), dtype)
    return jnp.asarray(random.integers(0, 2 if dtype == jnp.bool_ else 10, shape), dtype)


def _cast(args: tuple[Any, ...], dtype: str) -> tuple[Any, ...]:
    """Return the arguments with their floating point arrays cast; themselves if none changes."""
    wanted = jnp.dtype(dtype)
    changed = False

    def cast(leaf: Any) -> Any:
        nonlocal changed
        floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        if not floating or leaf.dtype == wanted:
            return leaf
        changed = True
        return jnp.asarray(leaf, wanted)

    given = jax.tree.map(cast, args)
    return given if changed else args


def _describe(args: Sequence[Any], quick: bool, description: str) -> str:
    if not quick:
        return description
    shapes = ", ".join(str(a.shape) for a in args if hasattr(a, "shape"))
    return f"a small version of it, on {shapes}"
