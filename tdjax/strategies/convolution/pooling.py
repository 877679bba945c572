"""The largest or smallest values of windows (pooling), with a gradient that is fast on a CPU.

A gradient goes, window by window, to the value that was taken. XLA for CPUs brings it there one
value after the other, on one core, which takes longer than the convolutions around it. Here it is a
sum over the places k of a window, as in (2) of `window.py`: with `seen_k[o] = x[o s + k]` and
`taken[o]` the place of the first largest of them,

    y[o] = max over k of  seen_k[o],        dx[o s + k] += dy[o] where taken[o] = k

each place is one elementwise operation. Measured on 2 cores (Zen 4, jax 0.10 and 0.12), of windows
2 x 2 and 3 x 3: 5 to 60 times as fast.

Of several that are as large the first one counts, and after NaN the next value: as XLA selects.

There are three operations, with the parameters of JAX's: what is taken; the tangents of that, as
JAX picks them; and the gradient, which spreads. The last two are the transposes of each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad

from tdjax.core.arrays import has_mesh_axes
from tdjax.core.checkable import SingleResult, with_tangent

# The places of a window are written out: compiling more takes longer than anyone wants to wait.
_MOST_PLACES = 64
_DILATIONS = ("base_dilation", "window_dilation")
_WINDOW = ("window_dimensions", "window_strides", "padding")
_TAKES = {lax.ge_p: lax.reduce_window_max_p, lax.le_p: lax.reduce_window_min_p}


def own_pooling(eqn: Any) -> tuple[Any, dict[str, Any]] | None:
    """Return the operation that is ours for an equation, with its parameters; None without one."""
    params = eqn.params
    if eqn.primitive in _TAKES.values():
        own = window_best
        (select,) = (by for by, taker in _TAKES.items() if taker is eqn.primitive)
    elif eqn.primitive in (lax.select_and_gather_add_p, lax.select_and_scatter_add_p):
        own = window_pick if eqn.primitive is lax.select_and_gather_add_p else window_spread
        select = params["select_prim"]
    else:
        return None
    dense = all(set(params.get(name, ())) <= {1} for name in _DILATIONS)
    if not dense or math.prod(params["window_dimensions"]) > _MOST_PLACES:
        return None
    return own, {"select_prim": select, **{name: params[name] for name in _WINDOW}}


def _dense(params: Mapping[str, Any]) -> dict[str, Any]:
    return {**params, **dict.fromkeys(_DILATIONS, (1,) * len(params["padding"]))}


def _best(operand: Any, select_prim: Any, **params: Any) -> Any:
    return _TAKES[select_prim].bind(operand, **_dense(params))


def _best_type(operand: Any, select_prim: Any, **params: Any) -> Any:
    return _TAKES[select_prim].abstract_eval(operand, **_dense(params))[0]


def _best_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    moved = [] if isinstance(tangents[0], ad.Zero) else [tangents[0]]
    parts = [window_pick.single(each, *primals, **params) for each in moved]
    return with_tangent(window_best.single(*primals, **params), parts)


def _pick(tangents: Any, operand: Any, **params: Any) -> Any:
    return lax.select_and_gather_add_p.bind(tangents, operand, **_dense(params))


def _pick_type(tangents: Any, operand: Any, **params: Any) -> Any:
    return lax.select_and_gather_add_p.abstract_eval(tangents, operand, **_dense(params))[0]


def _spread(cotangent: Any, operand: Any, **params: Any) -> Any:
    return lax.select_and_scatter_add_p.bind(cotangent, operand, **params)


def _spread_type(cotangent: Any, operand: Any, **params: Any) -> Any:
    return lax.select_and_scatter_add_p.abstract_eval(cotangent, operand, **params)[0]


def _spread_by_places(cotangent: Any, operand: Any, **params: Any) -> Any:
    """Return the gradient, place by place."""
    if has_mesh_axes(cotangent) or has_mesh_axes(operand):
        return _spread(cotangent, operand, **params)
    outs, zero = cotangent.shape, jnp.zeros((), cotangent.dtype)
    taken = _taken(operand, outs, **params)
    padding, strides = params["padding"], params["window_strides"]
    sizes = [size + sum(edges) for size, edges in zip(operand.shape, padding, strict=True)]
    total: Any = None
    for number, place in enumerate(_places(**params)):
        edges = [
            (at, size - at - (count - 1) * stride - 1, stride - 1)
            for at, size, count, stride in zip(place, sizes, outs, strides, strict=True)
        ]
        part = lax.pad(jnp.where(taken == number, cotangent, zero), zero, edges)
        total = part if total is None else total + part
    return lax.pad(total, zero, [(-low, -high, 0) for low, high in padding])


def _taken(operand: Any, outs: Sequence[int], select_prim: Any, **params: Any) -> Any:
    """Return of each window at which place its value was taken."""
    beyond = _beyond(operand.dtype, largest=select_prim is lax.ge_p)
    padded = lax.pad(operand, beyond, [(low, high, 0) for low, high in params["padding"]])
    begin, *others = _places(**params)
    best = _at(padded, begin, outs, **params)
    taken = jnp.zeros(best.shape, jnp.int8)
    for number, place in enumerate(others, 1):
        value = _at(padded, place, outs, **params)
        kept = select_prim.bind(best, value)
        best = jnp.where(kept, best, value)
        taken = jnp.where(kept, taken, jnp.int8(number))
    return lax.optimization_barrier(taken)  # once for all places


def _beyond(dtype: Any, largest: bool) -> Any:
    """Return what windows have beyond the edges: what is never taken."""
    if jnp.issubdtype(dtype, jnp.inexact):
        return jnp.asarray(-jnp.inf if largest else jnp.inf, dtype)
    limits = jnp.iinfo(dtype)
    return jnp.asarray(limits.min if largest else limits.max, dtype)


def _places(window_dimensions: Sequence[int], **_: Any) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, window_dimensions))


def _at(
    padded: Any, place: Sequence[int], outs: Sequence[int], window_strides: Sequence[int], **_: Any
) -> Any:
    """Return what is at a place of every window."""
    steps = zip(place, outs, window_strides, strict=True)
    limits = [at + (count - 1) * stride + 1 for at, count, stride in steps]
    return lax.slice(padded, place, limits, window_strides)


def _batching(own: Callable[[], Any]) -> Callable[..., tuple[Any, int]]:
    """Return a rule that puts the new axis first, along which no window slides."""

    def batch(args: Sequence[Any], axes: Sequence[Any], **params: Any) -> tuple[Any, int]:
        size = next(a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None)
        moved = [
            jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
            for a, axis in zip(args, axes, strict=True)
        ]
        first = {"window_dimensions": 1, "window_strides": 1, "padding": (0, 0)}
        wider = {name: (value, *params[name]) for name, value in first.items()}
        return own().single(*moved, **{**params, **wider}), 0

    return batch


def _linear(
    name: str,
    compute: Callable[..., Any],
    types: Callable[..., Any],
    own: Callable[[], Any],
    other: Callable[[], Any],
) -> Any:
    """Return an operation that is linear in the first of its inputs, and takes the second as it is.

    Args:
        name, compute, types: as of `SingleResult`.
        own: gives this operation.
        other: gives the one that is its transpose.
    """

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        moved = [] if isinstance(tangents[0], ad.Zero) else [tangents[0]]
        parts = [own().single(each, primals[1], **params) for each in moved]
        return with_tangent(own().single(*primals, **params), parts)

    def transpose(cotangent: Any, _: Any, operand: Any, **params: Any) -> list[Any]:
        return [other().single(cotangent, operand, **params), None]

    return SingleResult(name, compute, types, jvp=jvp, transpose=transpose, batch=_batching(own))


window_best: Any = SingleResult(
    "tdjax_window_best", _best, _best_type, jvp=_best_jvp, batch=_batching(lambda: window_best)
)
window_pick: Any = _linear(
    "tdjax_window_pick", _pick, _pick_type, lambda: window_pick, lambda: window_spread
)
window_spread: Any = _linear(
    "tdjax_window_spread", _spread, _spread_type, lambda: window_spread, lambda: window_pick
)
window_spread.lower_single(_spread_by_places, platform="cpu")
