"""The largest values of windows (max pooling), with a gradient that is fast on a CPU.

A gradient goes, window by window, to the value that was the largest. XLA for CPUs brings it there
one value after the other, on one core, which takes longer than the convolutions around it. Here it
is a sum over the places k of a window, as in (2) of `window.py`: with `seen_k[o] = x[o s + k]` and
`first[o]` the place of the largest of them,

    y[o] = max over k of  seen_k[o],        dx[o s + k] += dy[o] where first[o] = k

each place is one elementwise operation. Measured on 2 cores (Zen 4, jax 0.10 and 0.12), of windows
2 x 2 and 3 x 3: 5 to 60 times as fast.

Of several that are as large the first one counts, and after NaN the next value: as XLA selects.
Tangents of a forward mode are picked by JAX's own operation.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad

from tdjax.core.arrays import has_mesh_axes
from tdjax.core.checkable import SingleResult, with_tangent

PLAIN = lax.reduce_window_max_p

# The places of a window are written out: compiling more takes longer than anyone wants to wait.
_MOST_PLACES = 32
_DILATIONS = ("base_dilation", "window_dilation")


def pools_fast(eqn: Any) -> bool:
    """Say whether an equation is one that `window_max` is for."""
    if eqn.primitive is not PLAIN:
        return False
    places = math.prod(eqn.params["window_dimensions"])
    dense = all(set(eqn.params[name]) <= {1} for name in _DILATIONS)
    return dense and places <= _MOST_PLACES


def _plain(operand: Any, **params: Any) -> Any:
    return PLAIN.bind(operand, **params)


def _type(operand: Any, **params: Any) -> Any:
    return PLAIN.abstract_eval(operand, **params)[0]


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    moved = [] if isinstance(tangents[0], ad.Zero) else [tangents[0]]
    parts = [window_pick.single(each, *primals, **params) for each in moved]
    return with_tangent(window_max.single(*primals, **params), parts)


def _pick(tangents: Any, operand: Any, **params: Any) -> Any:
    """Return what JAX does: of each window the tangent of the largest value."""
    return jax.jvp(functools.partial(_plain, **params), (operand,), (tangents,))[1]


def _pick_type(tangents: Any, operand: Any, **params: Any) -> Any:
    return _type(tangents, **params)


def _pick_jvp(primals: Sequence[Any], moves: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    moved = [] if isinstance(moves[0], ad.Zero) else [moves[0]]
    parts = [window_pick.single(each, primals[1], **params) for each in moved]
    return with_tangent(window_pick.single(*primals, **params), parts)


def _transpose(cotangent: Any, tangents: Any, operand: Any, **params: Any) -> list[Any]:
    def plain(cotangent: Any, operand: Any) -> Any:
        pick = functools.partial(_pick, operand=operand, **params)
        return jax.linear_transpose(pick, tangents.aval)(cotangent)[0]

    if has_mesh_axes(cotangent) or has_mesh_axes(operand):
        return [plain(cotangent, operand), None]
    spread = functools.partial(_spread, **params)
    return [lax.platform_dependent(cotangent, operand, cpu=spread, default=plain), None]


def _spread(cotangent: Any, operand: Any, **params: Any) -> Any:
    """Return the gradient, place by place."""
    outs, zero = cotangent.shape, jnp.zeros((), cotangent.dtype)
    first = _first_largest(operand, outs, **params)
    padding, strides = params["padding"], params["window_strides"]
    sizes = [size + sum(edges) for size, edges in zip(operand.shape, padding, strict=True)]
    total: Any = None
    for number, place in enumerate(_places(**params)):
        edges = [
            (at, size - at - (count - 1) * stride - 1, stride - 1)
            for at, size, count, stride in zip(place, sizes, outs, strides, strict=True)
        ]
        part = lax.pad(jnp.where(first == number, cotangent, zero), zero, edges)
        total = part if total is None else total + part
    return lax.pad(total, zero, [(-low, -high, 0) for low, high in padding])


def _first_largest(operand: Any, outs: Sequence[int], **params: Any) -> Any:
    """Return of each window at which place its first largest value is."""
    padded = _padded(operand, _least(operand.dtype), **params)
    begin, *others = _places(**params)
    largest = _at(padded, begin, outs, **params)
    first = jnp.zeros(largest.shape, jnp.int8)
    for number, place in enumerate(others, 1):
        value = _at(padded, place, outs, **params)
        kept = largest >= value
        largest = jnp.where(kept, largest, value)
        first = jnp.where(kept, first, jnp.int8(number))
    return lax.optimization_barrier(first)  # once for all places


def _least(dtype: Any) -> Any:
    """Return what windows have beyond the edges."""
    least = -jnp.inf if jnp.issubdtype(dtype, jnp.inexact) else jnp.iinfo(dtype).min
    return jnp.asarray(least, dtype)


def _places(window_dimensions: Sequence[int], **_: Any) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, window_dimensions))


def _padded(array: Any, value: Any, padding: Sequence[tuple[int, int]], **_: Any) -> Any:
    return lax.pad(array, value, [(low, high, 0) for low, high in padding])


def _at(
    padded: Any, place: Sequence[int], outs: Sequence[int], window_strides: Sequence[int], **_: Any
) -> Any:
    """Return what is at a place of every window."""
    steps = zip(place, outs, window_strides, strict=True)
    limits = [at + (count - 1) * stride + 1 for at, count, stride in steps]
    return lax.slice(padded, place, limits, window_strides)


def _batched(own: str, args: Sequence[Any], axes: Sequence[Any], **params: Any) -> tuple[Any, int]:
    """Put the new axis first, along which no window slides."""
    size = next(a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None)
    moved = [
        jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
        for a, axis in zip(args, axes, strict=True)
    ]
    first = {name: (0, 0) if name == "padding" else 1 for name in params}
    wider = {name: (first[name], *value) for name, value in params.items()}
    return {"max": window_max, "pick": window_pick}[own].single(*moved, **wider), 0


window_max: Any = SingleResult(
    "tdjax_window_max", _plain, _type, jvp=_jvp, batch=functools.partial(_batched, "max")
)
window_pick: Any = SingleResult(
    "tdjax_window_pick",
    _pick,
    _pick_type,
    jvp=_pick_jvp,
    transpose=_transpose,
    batch=functools.partial(_batched, "pick"),
)
