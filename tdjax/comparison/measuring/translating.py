"""A trace of JAX's, computed by TensorFlow: every operation by the one of the same meaning.

`tf` is the module `tensorflow`, which is an argument: this file imports without it.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tdjax.core.jaxpr import inner_program, is_literal

# The operations that take their operands alone, by their names in `tf` and in `tf.math`.
_SAME = {
    "add": "add", "add_any": "add", "sub": "subtract", "mul": "multiply", "div": "divide",
    "max": "maximum", "min": "minimum", "neg": "negative", "exp": "exp", "log": "log",
    "tanh": "tanh", "logistic": "sigmoid", "rsqrt": "rsqrt", "sqrt": "sqrt", "abs": "abs",
    "sign": "sign", "erf": "erf", "erfc": "erfc", "pow": "pow", "square": "square",
    "log1p": "log1p", "expm1": "expm1", "sin": "sin", "cos": "cos", "floor": "floor",
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
    "ge": "greater_equal", "and": "logical_and", "or": "logical_or", "not": "logical_not",
    "stop_gradient": "stop_gradient", "tdjax_cut": "stop_gradient", "copy": "identity",
}  # fmt: skip
_SUMMED = {
    "reduce_sum": "reduce_sum", "reduce_max": "reduce_max", "reduce_min": "reduce_min",
    "reduce_prod": "reduce_prod",
}  # fmt: skip


def translated(tf: Any, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """Return the outputs of a trace as tensors.

    Raises:
        NotImplementedError: an operation, or a form of one, has no translation.
    """
    known = dict(zip(jaxpr.constvars, (tf.constant(np.asarray(c)) for c in consts), strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Any:
        return (
            tf.constant(np.asarray(atom.val, atom.aval.dtype)) if is_literal(atom) else known[atom]
        )

    for eqn in jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        inner = inner_program(eqn)
        if inner is not None:
            plain, closed = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
            outputs = translated(tf, plain, closed, values)
        else:
            outputs = [_operation(tf, eqn, values)]
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _operation(tf: Any, eqn: Any, values: list[Any]) -> Any:
    name, params = eqn.primitive.name, eqn.params
    if name in _SAME:
        same = getattr(tf, _SAME[name], None) or getattr(tf.math, _SAME[name])
        return same(*values)
    if name in _SUMMED:
        return getattr(tf, _SUMMED[name])(values[0], params["axes"])
    if name not in _OTHERS:
        raise NotImplementedError(f"TensorFlow is given no translation of JAX's operation {name}")
    return _OTHERS[name](tf, eqn, *values)


def _broadcast(tf: Any, eqn: Any, x: Any) -> Any:
    shape, axes = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    lengths = dict(zip(axes, eqn.invars[0].aval.shape, strict=True))
    return tf.broadcast_to(tf.reshape(x, [lengths.get(i, 1) for i in range(len(shape))]), shape)


def _reshape(tf: Any, eqn: Any, x: Any) -> Any:
    return tf.reshape(x, eqn.outvars[0].aval.shape)


def _dot(tf: Any, eqn: Any, left: Any, right: Any) -> Any:
    (contracted, batched) = eqn.params["dimension_numbers"]
    ranks = [len(atom.aval.shape) for atom in eqn.invars]
    if batched == ((), ()) and contracted == ((ranks[0] - 1,), (0,)) and ranks[1] == 2:
        # One product of matrices, as Dense has it.
        rows = tf.reshape(left, [-1, left.shape[-1]])
        return tf.reshape(tf.matmul(rows, right), eqn.outvars[0].aval.shape)
    letters = iter(string.ascii_letters)
    names = [[""] * rank for rank in ranks]
    both = "".join(_pair(names, axes, letters) for axes in zip(*batched, strict=True))
    for axes in zip(*contracted, strict=True):
        _pair(names, axes, letters)
    own = ""
    for side in names:
        for axis, letter in enumerate(side):
            if not letter:
                side[axis] = next(letters)
                own += side[axis]
    return tf.einsum(f"{''.join(names[0])},{''.join(names[1])}->{both}{own}", left, right)


def _pair(names: list[list[str]], axes: Sequence[int], letters: Any) -> str:
    letter: str = next(letters)
    for side, axis in zip(names, axes, strict=True):
        side[axis] = letter
    return letter


def _convolution(tf: Any, eqn: Any, images: Any, kernel: Any) -> Any:
    params = eqn.params
    lhs, rhs, out = params["dimension_numbers"]
    spatial = len(lhs) - 2
    if spatial not in (1, 2) or set(params["lhs_dilation"]) != {1}:
        raise NotImplementedError("TensorFlow is given convolutions along one or two axes alone")
    images = tf.transpose(images, [lhs[0], *lhs[2:], lhs[1]])
    kernel = tf.transpose(kernel, [*rhs[2:], rhs[1], rhs[0]])
    padding, groups = [*params["padding"]], params["feature_group_count"]
    strides, dilations = [*params["window_strides"]], [*params["rhs_dilation"]]
    if spatial == 1:
        images, kernel = images[:, None], kernel[None]
        padding, strides, dilations = [(0, 0), *padding], [1, *strides], [1, *dilations]
    edges = [(0, 0), *padding, (0, 0)]
    if groups == 1:
        found = tf.nn.conv2d(images, kernel, strides, edges, dilations=dilations)
    elif groups == images.shape[-1] == kernel.shape[-1] and strides[0] == strides[1]:
        kernel = tf.transpose(kernel, [0, 1, 3, 2])
        padded = tf.pad(images, edges)
        found = tf.nn.depthwise_conv2d(
            padded, kernel, [1, *strides, 1], "VALID", dilations=dilations
        )
    else:
        raise NotImplementedError("TensorFlow is given no convolutions in groups")
    found = found[:, 0] if spatial == 1 else found
    order = (out[0], *out[2:], out[1])
    return tf.transpose(found, [order.index(axis) for axis in range(len(order))])


def _select(tf: Any, eqn: Any, which: Any, *cases: Any) -> Any:
    if len(cases) != 2:
        raise NotImplementedError("TensorFlow is given a choice between two alone")
    return tf.where(tf.cast(which, tf.bool), cases[1], cases[0])


def _windows(tf: Any, eqn: Any, x: Any) -> Any:
    params = eqn.params
    window, strides = params["window_dimensions"], params["window_strides"]
    ones = {*params["base_dilation"], *params["window_dilation"], window[0], window[-1]}
    if ones != {1} or any(map(any, params["padding"])) or len(window) != 4:
        raise NotImplementedError("TensorFlow is given pooling of images without padding alone")
    return tf.nn.avg_pool2d(x, window[1:3], strides[1:3], "VALID") * math.prod(window)


def _power(tf: Any, eqn: Any, x: Any) -> Any:
    return tf.pow(x, tf.cast(eqn.params["y"], x.dtype))


def _slice(tf: Any, eqn: Any, x: Any) -> Any:
    params = eqn.params
    steps = params["strides"] or [1] * len(params["start_indices"])
    bounds = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
    return x[tuple(slice(*each) for each in bounds)]


def _rows(tf: Any, eqn: Any, table: Any, indices: Any) -> Any:
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shape = eqn.invars[0].aval.shape
    one = numbers.start_index_map == numbers.collapsed_slice_dims == (0,)
    last = numbers.offset_dims == (len(eqn.outvars[0].aval.shape) - 1,)
    if not one or not last or tuple(sizes) != (1, *shape[1:]) or len(shape) != 2:
        raise NotImplementedError("TensorFlow is given no gather but of rows of a table")
    return tf.gather(table, tf.clip_by_value(indices[..., 0], 0, shape[0] - 1))


_OTHERS: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": lambda tf, eqn, x: tf.transpose(x, eqn.params["permutation"]),
    "convert_element_type": lambda tf, eqn, x: tf.cast(x, eqn.outvars[0].aval.dtype.name),
    "concatenate": lambda tf, eqn, *xs: tf.concat(xs, eqn.params["dimension"]),
    "integer_pow": _power,
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "select_n": _select,
    "reduce_window_sum": _windows,
    "slice": _slice,
    "gather": _rows,
}
