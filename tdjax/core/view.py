"""A view of an array, of which a copy in another dtype has the gradients: see `shared.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

view_p = Primitive("tdjax_view")
"""Takes an array, and a copy whose value is not read; returns the array."""


def _first(array: Any, copy: Any) -> Any:
    return array


def _view_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    array, tangent = view_p.bind(*primals), tangents[1]
    if isinstance(tangent, ad.Zero):
        return array, ad.Zero(jax.typeof(array).to_tangent_aval())
    return array, lax.convert_element_type(tangent, array.dtype)


def _view_batch(args: Sequence[Any], axes: Sequence[Any]) -> tuple[Any, int]:
    return view_p.bind(*leading(args, axes)), 0


def leading(args: Sequence[Any], axes: Sequence[Any]) -> list[Any]:
    """Return arrays whose batch leads, all of which have it."""
    size = next(arg.shape[axis] for arg, axis in zip(args, axes, strict=True) if axis is not None)
    return [
        jnp.broadcast_to(arg, (size, *arg.shape)) if axis is None else jnp.moveaxis(arg, axis, 0)
        for arg, axis in zip(args, axes, strict=True)
    ]


view_p.def_impl(_first)
view_p.def_abstract_eval(_first)
ad.primitive_jvps[view_p] = _view_jvp
batching.primitive_batchers[view_p] = _view_batch
mlir.register_lowering(view_p, mlir.lower_fun(_first, multiple_results=False))
