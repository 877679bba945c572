"""What `tdjax compare` runs: named workloads, or one function of the user's own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.comparison.session import Job
from tdjax.comparison.steps import steps_of
from tdjax.comparison.subject import Subject, subject

_BLOCKS = 8
_BLOCKS_OF_FEW = 4
_FEW_ROWS = 32
_PLAIN = ("vmap", "fold", "map", "unroll")


def workload(name: str, strategies: Sequence[Any] | None, quick: bool) -> Job:
    """Return the job of a named workload.

    Args:
        name: one of `tdjax.workloads.names()`.
        strategies: strategy objects; None takes the usual ones, with blocked folds that fit
            the workload's rows.
        quick: make its arrays as small as they can be.

    Raises:
        ValueError: there is no workload of that name.
    """
    from tdjax import workloads

    found = workloads.get(name)

    def make() -> tuple[Subject, Sequence[Any]]:
        case = found.build(quick)
        made = subject(
            case.fun,
            case.args,
            in_axes=case.in_axes,
            out_axes=case.out_axes,
            name=name,
            description=_describe(case.args, quick, found.description),
        )
        return made, strategies or usual(case.args, case.in_axes, blocks=not quick)

    return Job(name, make)


def function(
    reference: str,
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[str],
    in_axes: Any,
    out_axes: Any,
    strategies: Sequence[Any] | None,
) -> Job:
    """Return the job of `package.module:attribute` on random arrays of these shapes.

    Raises:
        ValueError: the module or the attribute does not exist.
        TypeError: it is a class, or cannot be called.
    """
    fun = load(reference)
    args = tuple(_random(i, shape, dtypes) for i, shape in enumerate(shapes))
    made = subject(fun, args, in_axes=in_axes, out_axes=out_axes, name=reference)
    return Job(reference, lambda: (made, strategies or usual(args, in_axes)))


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


def load(reference: str) -> Any:
    """Return what `package.module:attribute` names, looking in the working folder as well.

    Raises:
        ValueError: the module or the attribute does not exist.
    """
    module_name, _, path = reference.partition(":")
    if not module_name or not path:
        raise ValueError(f"{reference!r} does not read as package.module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if missing != module_name and not module_name.startswith(f"{missing}."):
            raise
        raise ValueError(
            f"no module named {missing!r}; looked in {os.getcwd()} and the installed packages"
        ) from None
    for name in path.split("."):
        if not hasattr(value, name):
            known = [other for other in dir(value) if not other.startswith("_")][:8]
            raise ValueError(
                f"{module_name!r} has no attribute {path!r}; it has {', '.join(known) or 'none'}"
            )
        value = getattr(value, name)
    return value


def _random(index: int, shape: tuple[int, ...], dtypes: Sequence[str]) -> jax.Array:
    dtype = jnp.dtype(dtypes[min(index, len(dtypes) - 1)])
    random = np.random.default_rng(index)
    if jnp.issubdtype(dtype, jnp.inexact):
        return jnp.asarray(random.standard_normal(shape), dtype)
    return jnp.asarray(random.integers(0, 2 if dtype == jnp.bool_ else 10, shape), dtype)


def _describe(args: Sequence[Any], quick: bool, description: str) -> str:
    if not quick:
        return description
    shapes = ", ".join(str(a.shape) for a in args if hasattr(a, "shape"))
    return f"a small version of it, on {shapes}"
