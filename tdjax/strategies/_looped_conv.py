"""Convolutions whose gradients are fast inside a loop or a branch, too.

XLA for CPUs brings a convolution into the one form that its fast kernel takes, but only outside of
loops and branches. The gradient for a kernel contracts over the batch, never has that form, and is
computed by plain nested loops where it stands in a scan: some thirty times slower. So programs
that are to be looped over get a convolution of their own. It has the parameters and the meaning of
JAX's, and so have its derivatives; on a CPU it is lowered in the form that the kernel takes, with
the transposes written out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_PLAIN = lax.conv_general_dilated_p

conv_p = Primitive("looped_conv_general_dilated")
"""A convolution with the parameters of `jax.lax.conv_general_dilated_p`."""


def looped(jaxpr: Any) -> Any:
    """Return a jaxpr, or a closed one, with every convolution in it replaced, however deep."""
    if hasattr(jaxpr, "jaxpr") and type(jaxpr.jaxpr) is not type(jaxpr):  # before jax 0.12
        return jaxpr.replace(jaxpr=looped(jaxpr.jaxpr))
    return jaxpr.replace(eqns=[_looped_equation(eqn) for eqn in jaxpr.eqns])


def _looped_equation(eqn: Any) -> Any:
    if eqn.primitive is _PLAIN:
        return eqn.replace(primitive=conv_p)
    return eqn.replace(params={name: _looped_param(value) for name, value in eqn.params.items()})


def _looped_param(value: Any) -> Any:
    if isinstance(value, (tuple, list)) and any(hasattr(inner, "eqns") for inner in value):
        return type(value)(_looped_param(inner) for inner in value)
    return looped(value) if hasattr(value, "eqns") else value


def _by_looped(function: Callable[..., Any], *args: Any) -> Any:
    """Return `function(*args)`, its convolutions replaced."""
    closed = looped(jax.make_jaxpr(function)(*args))
    (output,) = jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *args)
    return output


def _plain(lhs: Any, rhs: Any, **params: Any) -> Any:
    return _PLAIN.bind(lhs, rhs, **params)


def _channels_last(lhs: Any, rhs: Any, *, dimension_numbers: Any, **params: Any) -> Any:
    """Convolve with batch first and channels last, kernels before their channels."""
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    spatial = range(1, lhs.ndim - 1)
    last = (0, lhs.ndim - 1, *spatial)
    outputs_last = (lhs.ndim - 1, lhs.ndim - 2, *(axis - 1 for axis in spatial))
    lhs = lax.transpose(lhs, (lhs_spec[0], *lhs_spec[2:], lhs_spec[1]))
    rhs = lax.transpose(rhs, (*rhs_spec[2:], rhs_spec[1], rhs_spec[0]))
    numbers = lax.ConvDimensionNumbers(last, outputs_last, last)
    out = _PLAIN.bind(lhs, rhs, dimension_numbers=numbers, **params)
    where = dict(zip(out_spec, last, strict=True))
    return lax.transpose(out, tuple(where[axis] for axis in range(out.ndim)))


def _transpose_lhs(cotangent: Any, lhs: Any, rhs: Any, **params: Any) -> Any:
    def pulled_back(cotangent: Any, rhs: Any) -> Any:
        convolve = functools.partial(_plain, rhs=rhs, **params)
        return jax.linear_transpose(convolve, lhs.aval)(cotangent)[0]

    return _by_looped(pulled_back, cotangent, rhs)


def _transpose_rhs(cotangent: Any, lhs: Any, rhs: Any, **params: Any) -> Any:
    def pulled_back(cotangent: Any, lhs: Any) -> Any:
        convolve = functools.partial(_plain, lhs, **params)
        return jax.linear_transpose(convolve, rhs.aval)(cotangent)[0]

    return _by_looped(pulled_back, cotangent, lhs)


def _batch(args: Sequence[Any], axes: Sequence[Any], **params: Any) -> tuple[Any, int]:
    mapped = jax.vmap(functools.partial(_plain, **params), tuple(axes))
    return _by_looped(mapped, *args), 0


conv_p.def_impl(_plain)
conv_p.def_effectful_abstract_eval(_PLAIN.abstract_eval)
ad.defbilinear(conv_p, _transpose_lhs, _transpose_rhs)
batching.primitive_batchers[conv_p] = _batch
mlir.register_lowering(conv_p, mlir.lower_fun(_plain, multiple_results=False))
mlir.register_lowering(
    conv_p, mlir.lower_fun(_channels_last, multiple_results=False), platform="cpu"
)
