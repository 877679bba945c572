"""Changes a row at a time, and looks at the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.core.arrays import is_inexact
from tdjax.core.call import Call, trace
from tdjax.core.errors import describe
from tdjax.independence import Proof, Rows
from tdjax.testing.answers import cotangent, wide_numpy
from tdjax.testing.differences import Tolerances, compared, described
from tdjax.testing.loop import as_jax_array, rows_of


def dependences(call: Call, proof: Proof, gradients: bool, limits: Tolerances) -> Iterator[str]:
    """Yield what is seen of a row when another one is changed."""
    if call.batch is None or not call.time:
        return
    roles = proof.roles
    rows = [i for i, role in enumerate(roles) if role in ("rows", "spread")]
    avals = trace(call, call.batch).out_avals
    smooth = [place for place, aval in enumerate(avals) if is_inexact(aval)]
    places = [i for i, leaf in enumerate(call.leaves) if is_inexact(leaf)]
    random = np.random.default_rng(0)
    pulled = [np.asarray(cotangent(random, avals[place])) for place in smooth]

    @jax.jit
    def evaluate(values: list[Any], cotangents: list[Any]) -> tuple[list[Any], list[Any]]:
        def chosen(*parts: Any) -> tuple[list[Any], list[Any]]:
            merged = list(values)
            for place, part in zip(places, parts, strict=True):
                merged[place] = part
            flat = [jnp.asarray(y) for y in jax.tree.leaves(call.step(merged))]
            return [flat[place] for place in smooth], flat

        parts = [values[place] for place in places]
        if not gradients or not places or not smooth:
            return chosen(*parts)[1], []
        _, pull, flat = jax.vjp(chosen, *parts, has_aux=True)
        return flat, list(pull(cotangents))

    kinds = [rows_of(call, proof, place, aval) for place, aval in enumerate(avals)]
    for step in range(call.time):
        given = [
            leaf if axis is None else jax.lax.index_in_dim(leaf, step, axis, keepdims=False)
            for leaf, axis in zip(map(as_jax_array, call.leaves), call.axes, strict=True)
        ]
        for row in range(call.batch):
            changed = [
                _changed(value, row, random) if i in rows else value
                for i, value in enumerate(given)
            ]
            cotangents = [
                _without(value, kinds[place], row, call.batch)
                for value, place in zip(pulled, smooth, strict=True)
            ]
            before, after = evaluate(given, cotangents), evaluate(changed, cotangents)
            wheres = [*kinds, *(Rows(0) if i in rows else None for i in places)]
            names = [f"output{path}" for path in _paths(call, given)]
            names += [f"gradient of {call.names[i]}" for i in places]
            pairs = zip(
                names, wheres, [*before[0], *before[1]], [*after[0], *after[1]], strict=False
            )
            for name, where, one, two in pairs:
                text = _seen(call, limits, name, where, row, one, two)
                if text:
                    yield f"with row {row} of step {step} changed (and no other),\n{text}"


def _paths(call: Call, given: list[Any]) -> list[str]:
    shapes = jax.eval_shape(call.step, given)
    return [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(shapes)]


def _changed(value: Any, row: int, random: np.random.Generator) -> Any:
    """Return an array with another row in the place of one: the next, a little smaller."""
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value.at[row].set(jax.random.fold_in(value[row], 1)) if value.ndim == 1 else value
    other = np.roll(wide_numpy(value) if not _is_complex(value) else np.asarray(value), -1, 0)[row]
    if is_inexact(value):
        other = other * (1 - 0.1 * random.uniform(size=other.shape))
        if not np.any(other):
            other = 0.1 * random.uniform(size=other.shape)
    return value.at[row].set(jnp.asarray(other, value.dtype))


def _is_complex(value: Any) -> bool:
    return bool(jnp.issubdtype(value.dtype, jnp.complexfloating))


def _owner(shape: tuple[int, ...], rows: Rows, batch: int) -> np.ndarray:
    """Return which row each element along the axis of rows belongs to, shaped to broadcast."""
    owner = np.arange(shape[rows.axis]) // rows.inner % batch
    return owner.reshape([-1 if i == rows.axis else 1 for i in range(len(shape))])


def _without(cotangent: np.ndarray, rows: Rows | None, row: int, batch: int) -> Any:
    """Return a cotangent that is zero for one row, and for values without rows."""
    if rows is None:
        return jnp.zeros(cotangent.shape, cotangent.dtype)
    keep = _owner(cotangent.shape, rows, batch) != row
    return jnp.asarray(np.where(keep, cotangent, np.zeros_like(cotangent)))


def _seen(
    call: Call, limits: Tolerances, name: str, rows: Rows | None, row: int, one: Any, two: Any
) -> str:
    """Describe how an array differs outside of a row, if it does."""
    ours, theirs, apart, allowed = compared(limits, one, two, one, 0.0)
    others = np.ones(apart.shape, bool)
    if rows is not None:
        others = np.broadcast_to(_owner(apart.shape, rows, call.batch) != row, apart.shape)
    apart = np.where(others, apart, 0)
    if not (apart > allowed).any():
        return ""

    def where(index: tuple[int, ...]) -> str:
        if rows is None:
            return ""
        return f", row {index[rows.axis] // rows.inner % call.batch}"

    text = described(
        f"{name} ({describe(one)})",
        (ours, theirs, apart, allowed),
        where,
        ("before", "after"),
        "elements of other rows",
    )
    return text.replace(f"of {apart.size} elements", f"of {int(others.sum())} elements")
