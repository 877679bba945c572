"""A convolution that is fast on a CPU: in a loop, in a branch, and in its gradient.

XLA for CPUs brings a convolution into the one form that its fast kernel takes, but only outside of
loops and branches; and the gradient for a kernel, which contracts over the batch, never has that
form. So the programs that tdjax computes in blocks get a convolution of their own. It has the
parameters and the meaning of JAX's, and so have its derivatives; on a CPU it is computed in the
forms of `forms.py`, on other devices as JAX's own.

A convolution is bilinear, y = C(x, w). Its derivatives are those of each argument alone, C(dx, w)
and C(x, dw), and the transposes of these, with a cotangent dy. The one for x is again a convolution
of dy, which JAX's own rule writes down; so is the one for w, where it is not computed by the sum
(4) of `forms.py`. In both, convolutions are replaced in turn, so that gradients of gradients are as
fast. `jax.vmap` puts the new axis where JAX's own rule puts it: into the batch, or into groups.

There is one for each kind of copies that may be beside it, as of blocks that are written out, since
that decides on its form: see `Copies`. One of these becomes another where it is differentiated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from tdjax.core.checkable import Checkable, bilinear
from tdjax.core.jaxpr import is_closed, with_programs
from tdjax.core.split import WIDE_GRADIENTS, rounded_gradient
from tdjax.strategies.convolution.forms import Copies, convolution, has_few_taps, kernel_gradient
from tdjax.strategies.convolution.pooling import own_pooling

_PLAIN = lax.conv_general_dilated_p


def replace_convolutions(jaxpr: Any, copies: Copies = Copies.NONE) -> Any:
    """Return a jaxpr, or a closed one, with every convolution in it replaced, however deep.

    So is what pools their outputs: see `pooling.py`.

    Args:
        jaxpr: the program.
        copies: what copies of the program are beside it.
    """
    if is_closed(jaxpr):
        return jaxpr.replace(jaxpr=replace_convolutions(jaxpr.jaxpr, copies))
    return jaxpr.replace(eqns=[_replace_equation(eqn, copies) for eqn in jaxpr.eqns])


def _replace_equation(eqn: Any, copies: Copies) -> Any:
    if eqn.primitive is _PLAIN:
        own = _OWN[copies]
        params = own.with_program(eqn.params, [atom.aval for atom in eqn.invars])
        return eqn.replace(primitive=own, params=params)
    if (pooling := own_pooling(eqn)) is not None:
        own, params = pooling
        params = own.with_program(params, [atom.aval for atom in eqn.invars])
        return eqn.replace(primitive=own, params=params)
    if isinstance(eqn.primitive, Checkable):
        return eqn
    return with_programs(eqn, functools.partial(replace_convolutions, copies=copies))


def _run_replaced(copies: Copies, function: Callable[..., Any], *args: Any) -> Any:
    """Return `function(*args)`, its convolutions replaced."""
    closed = replace_convolutions(jax.make_jaxpr(function)(*args), copies)
    (output,) = jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *args)
    return output


def _plain(lhs: Any, rhs: Any, **params: Any) -> Any:
    return _PLAIN.bind(lhs, rhs, **params)


def _type(lhs: Any, rhs: Any, **params: Any) -> Any:
    return _PLAIN.abstract_eval(lhs, rhs, **params)[0]


def _transpose_lhs(copies: Copies, cotangent: Any, lhs: Any, rhs: Any, **params: Any) -> Any:
    def pulled_back(cotangent: Any, rhs: Any) -> Any:
        convolve = functools.partial(_plain, rhs=rhs, **params)
        return jax.linear_transpose(convolve, lhs.aval)(cotangent)[0]

    return _run_replaced(copies, pulled_back, cotangent, rhs)


def _transpose_rhs(copies: Copies, cotangent: Any, lhs: Any, rhs: Any, **params: Any) -> Any:
    def pulled_back(cotangent: Any, lhs: Any) -> Any:
        convolve = functools.partial(_plain, lhs, **params)
        return jax.linear_transpose(convolve, rhs.aval)(cotangent)[0]

    def on_cpu(cotangent: Any, lhs: Any) -> Any:
        return kernel_gradient(cotangent, lhs, rhs.aval, copies, **params)

    if not has_few_taps(cotangent, lhs, rhs.aval, **params):
        return _run_replaced(copies, pulled_back, cotangent, lhs)
    forms = functools.partial(lax.platform_dependent, cpu=on_cpu, default=pulled_back)
    return _run_replaced(copies, forms, cotangent, lhs)


def _wide_gradient(
    copies: Copies, cotangent: Any, other: Any, sought: Any, place: int, params: dict[str, Any]
) -> Any:
    """Return the gradient of one side in its dtype, which is wider than those of the others."""

    def rounded(cotangent: Any, other: Any) -> Any:
        return rounded_gradient(cotangent, other, sought, place, params)

    def on_cpu(cotangent: Any, other: Any) -> Any:
        dtype = sought.dtype
        return kernel_gradient(cotangent.astype(dtype), other.astype(dtype), sought, copies, **own)

    own = {name: value for name, value in params.items() if name not in ("operation", "side")}
    if place == 0 or not has_few_taps(cotangent, other, sought, **own):
        return rounded(cotangent, other)
    forms = functools.partial(lax.platform_dependent, cpu=on_cpu, default=rounded)
    return _run_replaced(copies, forms, cotangent, other)


def _batch(
    copies: Copies, args: Sequence[Any], axes: Sequence[Any], **params: Any
) -> tuple[Any, int]:
    mapped = jax.vmap(functools.partial(_plain, **params), tuple(axes))
    return _run_replaced(copies, mapped, *args), 0


def _own(name: str, copies: Copies, differentiated: Any = None) -> Any:
    """Return a convolution with the parameters of `jax.lax.conv_general_dilated_p`."""
    left, right, batch = (
        functools.partial(rule, copies) for rule in (_transpose_lhs, _transpose_rhs, _batch)
    )
    own = bilinear(name, _plain, _type, left, right, batch, differentiated)
    own.lower_single(functools.partial(convolution, copies=copies), platform="cpu")
    WIDE_GRADIENTS[name] = functools.partial(_wide_gradient, copies)
    return own


_RUNNING = _own("tdjax_conv_written_out_kept", Copies.RUNNING)
_OWN = {
    Copies.NONE: _own("tdjax_conv_general_dilated", Copies.NONE),
    Copies.WAITING: _own("tdjax_conv_written_out", Copies.WAITING, _RUNNING),
    Copies.RUNNING: _RUNNING,
}
