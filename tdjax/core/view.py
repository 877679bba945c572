"""A view of an array, of which a copy in another dtype has the gradients: see `shared.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

view_p = Primitive("tdjax_view")
"""Takes an array, and a copy whose value is not read; returns the array."""


def _value(array: Any, copy: Any) -> Any:
    return array


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    array, tangent = view_p.bind(*primals), tangents[1]
    if isinstance(tangent, ad.Zero):
        return array, ad.Zero(jax.typeof(array).to_tangent_aval())
    return array, jax.lax.convert_element_type(tangent, array.dtype)


def _batch(args: Sequence[Any], axes: Sequence[Any]) -> tuple[Any, int]:
    size = next(arg.shape[axis] for arg, axis in zip(args, axes, strict=True) if axis is not None)
    leading = [
        jnp.broadcast_to(arg, (size, *arg.shape)) if axis is None else jnp.moveaxis(arg, axis, 0)
        for arg, axis in zip(args, axes, strict=True)
    ]
    return view_p.bind(*leading), 0


view_p.def_impl(_value)
view_p.def_abstract_eval(_value)
ad.primitive_jvps[view_p] = _jvp
batching.primitive_batchers[view_p] = _batch
mlir.register_lowering(view_p, mlir.lower_fun(_value, multiple_results=False))
