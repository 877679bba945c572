"""Programs that take arrays in two parts: see `shared.py`.

They are kept in two parts as far as that goes: what moves a copy about is transposed to what adds
up in its dtype (`w[i]`, a bias for all rows), and the gradient of a product is computed in it.
Where that ends, a view joins the parts, and the gradient is rounded to the array's dtype.

For a product y = x w with w in the parts a and c, the tangent is

    dy = dx w + x dc        of which the second is `_pushed_p`, bilinear in x and dc

computed in the dtype of w, and transposed for dc with a cotangent y' as x^T y' in the dtype of c.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad

from tdjax.core.arrays import cut
from tdjax.core.checkable import SingleResult, bilinear, with_tangent
from tdjax.core.jaxpr import bind, is_literal, scan_counts
from tdjax.core.shared import Split, joined, split
from tdjax.core.view import leading, view_p

_ELEMENTWISE = ("add", "div", "max", "min", "mul", "sub")
_CALLS = ("jit", "pjit", "closed_call", "core_call")
_REMATS = ("checkpoint", "remat", "remat2")
_MOVES = (
    "broadcast_in_dim", "copy", "dynamic_slice", "expand_dims", "gather", "reshape", "rev", "slice",
    "squeeze", "transpose",
)  # fmt: skip


def evaluate(
    program: Any, consts: Sequence[Any], inputs: Sequence[Any], shared: Sequence[bool] | None = None
) -> list[Any]:
    """Return the outputs of a program, of which constants and inputs may be split.

    What is made of shared arrays alone, as `gelu(w)`, is shared, and is split in turn.

    Args:
        program: the equations.
        consts, inputs: what they start from.
        shared: which inputs are the same for all blocks; None for those that are split.
    """
    jaxpr = getattr(program, "jaxpr", program)
    variables = (*jaxpr.constvars, *jaxpr.invars)
    known = dict(zip(variables, (*consts, *inputs), strict=True))
    if shared is None:
        shared = [isinstance(value, Split) for value in inputs]
    common = set(itertools.compress(variables, [*[True] * len(consts), *shared]))

    def read(atom: Any) -> Any:
        return atom.val if is_literal(atom) else known[atom]

    for eqn in jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        are_shared = [is_literal(atom) or atom in common for atom in eqn.invars]
        outputs = _equation(eqn, values, are_shared)
        if all(are_shared):
            outputs = [each if isinstance(each, Split) else split(each) for each in outputs]
            common.update(eqn.outvars)
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(eqn: Any, values: list[Any], shared: list[bool]) -> list[Any]:
    found = [place for place, value in enumerate(values) if isinstance(value, Split)]
    name = eqn.primitive.name
    if not found:
        return bind(eqn, values)
    if name in _CALLS:
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        return evaluate(inner, getattr(inner, "consts", ()), values, shared)
    if name in _REMATS:
        inner, options = eqn.params["jaxpr"], ("prevent_cse", "policy")
        run = functools.partial(evaluate, inner, getattr(inner, "consts", ()), shared=shared)
        return jax.checkpoint(run, **{each: eqn.params[each] for each in options})(values)
    if name == "scan":
        return _scan(eqn, values, shared)
    if name == "cond":
        return _cond(eqn, values, shared)
    value = values[found[0]]
    if name in _MOVES and found == [0]:
        return [value.moved(lambda part: bind(eqn, [part, *values[1:]])[0])]
    if name == "convert_element_type" and eqn.outvars[0].aval.dtype == value.dtype:
        return [value]
    if name == "convert_element_type" and eqn.outvars[0].aval.dtype == value.copy.dtype:
        return [value.whole(value.copy.dtype)]
    if name in _ELEMENTWISE:
        values = _spread(values, eqn.outvars[0].aval.shape)
    if name in WIDE_GRADIENTS and len(found) == 1 and _is_narrow(eqn, values, value.dtype):
        return [_product(eqn, values, found[0])]
    return bind(eqn, joined(values))


def _cond(eqn: Any, values: list[Any], shared: list[bool]) -> list[Any]:
    """Run a branch, which takes arrays in two parts."""

    def taking(branch: Any) -> Callable[[list[Any]], list[Any]]:
        return lambda given: joined(evaluate(branch, branch.consts, given, shared[1:]))

    index, *operands = values
    return list(lax.switch(index, [taking(each) for each in eqn.params["branches"]], operands))


def _scan(eqn: Any, values: list[Any], shared: list[bool]) -> list[Any]:
    """Run a loop, each turn of which adds to the gradients of its constants."""
    first, carried = scan_counts(eqn)
    body, rest = eqn.params["jaxpr"], joined(values[first:])
    same = [*shared[:first], *[False] * len(rest)]

    def turn(carry: list[Any], xs: list[Any]) -> tuple[list[Any], list[Any]]:
        given = [*values[:first], *carry, *xs]
        outputs = joined(evaluate(body, getattr(body, "consts", ()), given, same))
        return outputs[:carried], outputs[carried:]

    options = {key: eqn.params[key] for key in ("length", "reverse", "unroll")}
    carry, outputs = lax.scan(turn, rest[:carried], rest[carried:], **options)
    return [*carry, *outputs]


def _spread(values: list[Any], shape: tuple) -> list[Any]:
    """Return what an operation takes, split arrays in the shape that it repeats them to.

    `jax.vmap` repeats them, too, for every other array: the copy is given its batch, so that what
    is transposed to a sum over it is one of copies. The value of a copy does not matter.
    """
    others = [
        value
        for value in values
        if not isinstance(value, Split) and isinstance(value, jax.core.Tracer)
    ]

    def spread(value: Any) -> Any:
        if not isinstance(value, Split) or value.array is None:
            return value
        value = value.moved(lambda part: jnp.broadcast_to(part, shape))
        copy = value.copy
        for other in others:
            copy = copy + 0 * cut(other).astype(copy.dtype)
        return dataclasses.replace(value, copy=copy)

    return [spread(value) for value in values]


def _is_narrow(eqn: Any, values: Sequence[Any], dtype: Any) -> bool:
    """Say whether both sides of a product and what it gives are of the same dtype."""
    return all(each.dtype == dtype for each in (*values, eqn.outvars[0].aval))


def _product(eqn: Any, values: list[Any], side: int) -> Any:
    split, given = values[side], list(values)
    params = {**eqn.params, "side": side, "operation": eqn.primitive}
    params.pop("call_jaxpr", None)  # of an operation that checkify looks into
    if split.array is None:
        given[side] = split.copy
        return bind(eqn.replace(primitive=pushed_p, params=params), given)[0]
    given[side] = split.array
    return bind(eqn.replace(primitive=product_p, params=params), [*given, split.copy])[0]


def _multiply(left: Any, right: Any, *, operation: Any, **params: Any) -> Any:
    params.pop("side", None)
    output = operation.bind(left, right, **params)
    return output[0] if operation.multiple_results else output


def _type_of_product(left: Any, right: Any, *, operation: Any, **params: Any) -> Any:
    output = operation.abstract_eval(left, right, **params)[0]
    return output[0] if operation.multiple_results else output


def _rounded(sides: Sequence[Any], side: int) -> list[Any]:
    dtype = sides[1 - side].dtype
    return [each.astype(dtype) if k == side else each for k, each in enumerate(sides)]


def _product_value(left: Any, right: Any, copy: Any, **params: Any) -> Any:
    return _multiply(left, right, **params)


def _pushed_value(left: Any, right: Any, *, side: int, **params: Any) -> Any:
    return _multiply(*_rounded((left, right), side), **params)


def _product_type(left: Any, right: Any, copy: Any, *, side: int, **params: Any) -> Any:
    return _type_of_product(left, right, **params)


def _pushed_type(left: Any, right: Any, *, side: int, **params: Any) -> Any:
    sides = [left, right]
    sides[side] = sides[side].update(dtype=sides[1 - side].dtype)
    return _type_of_product(*sides, **params)


def _product_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, side: int, **params: Any
) -> tuple[Any, Any]:
    output = product_p.single(*primals, side=side, **params)
    *sides, copy = primals
    parts = []
    if not isinstance(tangents[1 - side], ad.Zero):
        moved = [tangents[k] if k == 1 - side else each for k, each in enumerate(sides)]
        parts.append(product_p.single(*moved, copy, side=side, **params))
    if not isinstance(tangents[2], ad.Zero):
        moved = [tangents[2] if k == side else each for k, each in enumerate(sides)]
        parts.append(pushed_p.single(*moved, side=side, **params))
    return with_tangent(output, parts)


def _product_transpose(
    cotangent: Any, left: Any, right: Any, copy: Any, *, side: int, **params: Any
) -> list[Any]:
    sides = [left, right]
    if not ad.is_undefined_primal(other := sides[1 - side]):  # `jax.linear_transpose` for w itself
        return [None, None, _wide_gradient(cotangent, other, copy.aval, side, **params)]
    joined = view_p.single(sides[side], copy)

    def of_other(other: Any) -> Any:
        return _multiply(*((joined, other) if side == 0 else (other, joined)), **params)

    found = jax.linear_transpose(of_other, sides[1 - side].aval)(cotangent)[0]
    return [found if k == 1 - side else None for k in range(3)]


def _pushed_back(place: int) -> Callable[..., Any]:
    """Return the rule for the gradient of one side of what is pushed."""

    def rule(cotangent: Any, left: Any, right: Any, *, side: int, **params: Any) -> Any:
        sides = [left, right]
        sought, other = sides[place].aval, sides[1 - place]
        if place != side:
            return _pulled_back(cotangent, other.astype(sought.dtype), sought, place, params)
        return _wide_gradient(cotangent, other, sought, place, **params)

    return rule


def _wide_gradient(
    cotangent: Any, other: Any, sought: Any, place: int, *, operation: Any, **params: Any
) -> Any:
    params["operation"] = operation
    return WIDE_GRADIENTS[operation.name](cotangent, other, sought, place, params)


def _pulled_back(
    cotangent: Any, other: Any, sought: Any, place: int, params: dict[str, Any]
) -> Any:
    def of_sought(value: Any) -> Any:
        return _multiply(*((value, other) if place == 0 else (other, value)), **params)

    return jax.linear_transpose(of_sought, sought)(cotangent)[0]


def rounded_gradient(
    cotangent: Any, other: Any, sought: Any, place: int, params: dict[str, Any]
) -> Any:
    """Return the gradient of one side of a product, rounded before it is in its wider dtype."""
    narrow = sought.update(dtype=other.dtype)
    return _pulled_back(cotangent, other, narrow, place, params).astype(sought.dtype)


def _dot_gradient(
    cotangent: Any, other: Any, sought: Any, place: int, params: dict[str, Any]
) -> Any:
    gradient = functools.partial(rounded_gradient, sought=sought, place=place, params=params)
    closed = jax.make_jaxpr(gradient)(cotangent, other)
    on_cpu, default = (
        functools.partial(_in_dtype, sought.dtype, closed, on_cpu) for on_cpu in (True, False)
    )
    return lax.platform_dependent(cotangent, other, cpu=on_cpu, default=default)


def _in_dtype(dtype: Any, closed: Any, on_cpu: bool, *inputs: Any) -> Any:
    """Return what a product gives, which is laid out anew afterwards, in another dtype."""
    known = dict(zip(closed.jaxpr.invars, inputs, strict=True))
    for eqn in closed.jaxpr.eqns:
        values = [known[atom] for atom in eqn.invars]
        if eqn.primitive is lax.dot_general_p:
            outputs = [_dot_on_cpu(eqn, values, dtype) if on_cpu else _dot_in(eqn, values, dtype)]
        else:
            outputs = values if eqn.primitive.name == "convert_element_type" else bind(eqn, values)
        known.update(zip(eqn.outvars, outputs, strict=True))
    return known[closed.jaxpr.outvars[0]]


def _dot_in(eqn: Any, values: list[Any], dtype: Any) -> Any:
    return bind(eqn.replace(params={**eqn.params, "preferred_element_type": dtype}), values)[0]


def _dot_on_cpu(eqn: Any, values: list[Any], dtype: Any) -> Any:
    """Return a product as XLA for CPUs computes it in float32.

    It does not compute every product of one dtype in another. But what is converted where it is
    computed, it does not round in between; and it is computed there if one axis is contracted.
    """
    contracted, (batch, _) = eqn.params["dimension_numbers"]
    if not batch and len(contracted[0]) > 1:
        values = [_merged(*each) for each in zip(values, contracted, strict=True)]
        numbers = (((0,), (0,)), ((), ()))
        eqn = eqn.replace(params={**eqn.params, "dimension_numbers": numbers})
    return bind(eqn, values)[0].astype(dtype)


def _merged(value: Any, axes: Sequence[int]) -> Any:
    """Return an array with these axes in front, as one."""
    others = [axis for axis in range(value.ndim) if axis not in axes]
    moved = lax.transpose(value, (*axes, *others))
    return moved.reshape(-1, *(value.shape[axis] for axis in others))


WIDE_GRADIENTS: dict[str, Callable[..., Any]] = {"dot_general": _dot_gradient}
"""The bilinear operations of which the gradient of one side is computed in a wider dtype, and how.

Each takes the cotangent, the other side, the type of the gradient, which side it is of, and the
parameters of the operation.
"""


def _product_series(
    primals: Sequence[Any], terms: Sequence[Any], *, side: int, operation: Any, **params: Any
) -> Any:
    from jax.experimental import jet

    *sides, _ = primals
    moved = [*terms[:2]]
    moved[side] = [term.astype(sides[side].dtype) for term in terms[2]]
    return jet.jet_rules[operation](sides, moved, **params)[1]


def _product_batch(
    args: Sequence[Any], axes: Sequence[Any], *, side: int, **params: Any
) -> tuple[Any, int]:
    *sides, copy = args
    *places, of_copy = axes
    if (places[side], of_copy) != (None, None):
        sides[side], copy = leading((sides[side], copy), (places[side], of_copy))
        places[side] = 0
    split = Split(sides[side], copy, sides[side].dtype)
    return _batched(sides, places, split, side, params), 0


def _pushed_batch(
    args: Sequence[Any], axes: Sequence[Any], *, side: int, **params: Any
) -> tuple[Any, int]:
    split = Split(None, args[side], args[1 - side].dtype)
    return _batched(args, axes, split, side, params), 0


def _batched(
    sides: Sequence[Any], axes: Sequence[Any], split: Split, side: int, params: dict[str, Any]
) -> Any:
    def many(left: Any, right: Any) -> Any:
        return jax.vmap(lambda *one: _multiply(*one, **params), tuple(axes))(left, right)

    closed = jax.make_jaxpr(many)(*_rounded(sides, side))
    given = [split if k == side else each for k, each in enumerate(sides)]
    return joined(evaluate(closed, closed.consts, given))[0]


product_p = SingleResult(
    "tdjax_product",
    _product_value,
    _product_type,
    jvp=_product_jvp,
    transpose=_product_transpose,
    batch=_product_batch,
    series=_product_series,
)
"""A product, of which a copy of the side `side` is the third operand, whose value is not read."""

pushed_p = bilinear(
    "tdjax_pushed", _pushed_value, _pushed_type, _pushed_back(0), _pushed_back(1), _pushed_batch
)
"""A product, one side of which, `side`, is of a wider dtype, and is rounded."""
