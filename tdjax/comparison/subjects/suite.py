"""What `tdjax compare` runs: named workloads, or one function of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tdjax import workloads
from tdjax.comparison.peers import PEERS
from tdjax.comparison.subjects.benchmark import Made, Series
from tdjax.comparison.subjects.leaves import normal
from tdjax.comparison.subjects.locate import locate
from tdjax.comparison.subjects.subject import subject
from tdjax.comparison.subjects.thinned_masks import thinned
from tdjax.comparison.subjects.time_axes import steps_of
from tdjax.strategies import NAMES, Fold, candidates

_BLOCKS = 8
_BLOCKS_OF_FEW = 4
_FEW_ROWS = 32
SETS = ("peers", "every")
_PLAIN = ("vmap", "fold", "map", "unroll")


def workload(
    name: str, strategies: Sequence[Any] | str | None, quick: bool, dtype: str | None = None
) -> Series:
    """Return a named workload, to be run.

    Args:
        name: one of `tdjax.workloads.names()`.
        strategies: as for `chosen`.
        quick: make its arrays as small as they can be.
        dtype: the floating point dtype of its parameters and inputs; None leaves them.

    Raises:
        ValueError: there is no workload of that name.
    """
    found = workloads.get(name)

    def build() -> _Built:
        case = found.build(quick)
        description = _describe(case.args, quick, found.description)
        if dtype is not None and (args := _cast(case.args, dtype)) is not case.args:
            case = replace(case, args=args)
            description = f"{description.rstrip('.')}, in {dtype}"
        return _Built(case.fun, case.args, case.in_axes, case.out_axes, description)

    return _series(name, build, strategies, blocks=not quick)


def function(
    reference: str,
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[str],
    in_axes: Any,
    out_axes: Any,
    strategies: Sequence[Any] | str | None,
) -> Series:
    """Return `package.module:name`, to be run on random arrays of these shapes.

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
            f"{reference} is a class, and not a Flax module; name what it makes, {reference}(...), "
            "or a function"
        )
    if not callable(fun):
        kind = type(fun).__name__
        raise TypeError(f"{reference} is of {kind}, needed a function or a Flax module")

    def build() -> _Built:
        args = tuple(_random(i, shape, dtypes) for i, shape in enumerate(shapes))
        return _Built(fun, args, in_axes, out_axes)

    return _series(reference, build, strategies)


class _Built(NamedTuple):
    """A step function, its arguments and their axes, and a line on them."""

    fun: Any
    args: tuple[Any, ...]
    in_axes: Any
    out_axes: Any
    description: str | None = None


def _series(
    name: str,
    build: Callable[[], _Built],
    strategies: Sequence[Any] | str | None,
    blocks: bool = True,
) -> Series:
    """Return what makes subjects of something that is built once, when it is first asked for."""
    build = cache(build)

    def make(part: float | None = None) -> Made:
        fun, args, in_axes, out_axes, description = build()
        mask = None if part is None else jnp.asarray(thinned(None, steps_of(args, in_axes), part))
        made = subject(
            fun,
            args,
            in_axes=in_axes,
            out_axes=out_axes,
            mask=mask,
            name=name,
            description=description,
        )
        return made, chosen(strategies, args, in_axes, blocks, masked=mask is not None)

    return Series(name, make)


def chosen(
    strategies: Sequence[Any] | str | None,
    args: Sequence[Any],
    in_axes: Any,
    blocks: bool = True,
    masked: bool = False,
) -> Sequence[Any]:
    """Return the strategies to compare: those that are given, or a set that fits the arguments.

    Args:
        strategies: strategy objects; "peers" for `auto` and what other libraries offer; "every"
            for all that `auto` chooses from; None for the usual ones.
        args, in_axes: what they run on.
        blocks: whether blocked folds are among the usual ones.
        masked: whether there is a mask: then packed steps are in every set.
    """
    packed = [each for each in NAMES.values() if each.packs] if masked else []
    if strategies == "peers":
        return with_peers(packed)
    if strategies == "every":
        return [*every(args, in_axes), *packed]
    assert not isinstance(strategies, str)
    return strategies or [*usual(args, in_axes, blocks), *packed]


def with_peers(ours: Sequence[Any] = ()) -> list[Any]:
    """Return the reference, `auto`, these strategies, and every rival that is installed."""
    return [NAMES["vmap"], NAMES["auto"], *ours, *(peer for peer in PEERS if peer.installed)]


def every(args: Sequence[Any], in_axes: Any) -> list[Any]:
    """Return `auto`, and all that it chooses from: the best of them is the best it could do."""
    steps = steps_of(args, in_axes)
    if steps is None:
        return usual(args, in_axes)
    return [NAMES["auto"], *candidates(steps.batch, steps.time, remat=True, own_forms=True)]


def usual(args: Sequence[Any], in_axes: Any, blocks: bool = True) -> list[Any]:
    """Return the strategies to compare when none are named.

    The four plain ones, folds in 8 blocks of rows, unrolled and scanned, 4 if rows are few, and
    `auto`.
    """
    found = [NAMES[name] for name in _PLAIN]
    steps = steps_of(args, in_axes)
    rows = 0 if steps is None else steps.batch * steps.time
    if blocks and rows >= _BLOCKS_OF_FEW:
        size = -(-rows // (_BLOCKS if rows >= _FEW_ROWS else _BLOCKS_OF_FEW))
        found += [Fold(chunk_size=size, unroll=True), Fold(chunk_size=size)]
    return [*found, NAMES["auto"]]


def _random(index: int, shape: tuple[int, ...], dtypes: Sequence[str]) -> jax.Array:
    dtype = jnp.dtype(dtypes[min(index, len(dtypes) - 1)])
    random = np.random.default_rng(index)
    if jnp.issubdtype(dtype, jnp.inexact):
        return normal(random, shape, dtype)
    return jnp.asarray(random.integers(0, 2 if dtype == jnp.bool_ else 10, shape), dtype)


def _cast(args: tuple[Any, ...], dtype: str) -> tuple[Any, ...]:
    """Return the arguments with their floating point arrays cast; themselves if none changes."""
    wanted = jnp.dtype(dtype)

    def changes(leaf: Any) -> bool:
        floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return floating and leaf.dtype != wanted

    if not any(map(changes, jax.tree.leaves(args))):
        return args
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, wanted) if changes(leaf) else leaf, args)


def _describe(args: Sequence[Any], quick: bool, description: str) -> str:
    if not quick:
        return description
    shapes = ", ".join(str(a.shape) for a in args if hasattr(a, "shape"))
    return f"a small version of it, on {shapes}"
