"""Arrays of which a copy in another dtype has the gradients, see `shared.py`, or nothing has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad

from tdjax.core.checkable import SingleResult, with_tangent


def _first(array: Any, copy: Any) -> Any:
    return array


def _view_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    array, tangent = view_p.single(*primals), tangents[1]
    moves = not isinstance(tangent, ad.Zero)
    return with_tangent(array, [lax.convert_element_type(tangent, array.dtype)] if moves else [])


def _view_transpose(cotangent: Any, _: Any, copy: Any) -> list[Any]:
    return [None, lax.convert_element_type(cotangent, copy.aval.dtype)]


def _view_series(primals: Sequence[Any], terms: Sequence[Any]) -> list[Any]:
    return [lax.convert_element_type(term, primals[0].dtype) for term in terms[1]]


def _view_batch(args: Sequence[Any], axes: Sequence[Any]) -> tuple[Any, int]:
    return view_p.single(*leading(args, axes)), 0


def leading(args: Sequence[Any], axes: Sequence[Any]) -> list[Any]:
    """Return arrays whose batch leads, all of which have it."""
    size = next(arg.shape[axis] for arg, axis in zip(args, axes, strict=True) if axis is not None)
    return [
        jnp.broadcast_to(arg, (size, *arg.shape)) if axis is None else jnp.moveaxis(arg, axis, 0)
        for arg, axis in zip(args, axes, strict=True)
    ]


view_p = SingleResult(
    "tdjax_view",
    _first,
    _first,
    jvp=_view_jvp,
    batch=_view_batch,
    transpose=_view_transpose,
    series=_view_series,
)
"""Takes an array, and a copy whose value is not read; returns the array."""


def _same(array: Any) -> Any:
    return array


def _cut_jvp(primals: Sequence[Any], _: Any) -> tuple[Any, Any]:
    return with_tangent(cut_p.single(*primals), [])


def _cut_series(_: Sequence[Any], terms: Sequence[Any]) -> list[Any]:
    return [jnp.zeros_like(term) for term in terms[0]]


def _cut_batch(args: Sequence[Any], axes: Sequence[Any]) -> tuple[Any, Any]:
    return cut_p.single(*args), axes[0]


def _cut_transpose(_: Any, array: Any) -> list[Any]:
    return [ad.Zero(array.aval)]


cut_p = SingleResult(
    "tdjax_cut",
    _same,
    _same,
    jvp=_cut_jvp,
    batch=_cut_batch,
    transpose=_cut_transpose,
    series=_cut_series,
)
"""Returns its array, to which no gradient flows, nor a cotangent from `jax.linear_transpose`."""
