"""What `time_distributed` means: a plain Python loop, written without any of the library's code."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

TOLERANCE = {
    "bfloat16": 5e-2,
    "float16": 1e-2,
    "float32": 5e-5,
    "complex64": 5e-5,
    "float64": 1e-10,
    "complex128": 1e-10,
}


def is_none(leaf):
    return leaf is None


def is_array(leaf):
    return isinstance(leaf, (jax.Array, np.ndarray))


def is_concrete(leaf):
    """Return whether NumPy can read a value, which then needs no program of its own."""
    is_key = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return not (isinstance(leaf, jax.core.Tracer) or is_key)


def steps_of(args: tuple, in_axes: Any) -> list[int]:
    """Return the sizes of all mapped axes."""
    sizes: list[int] = []

    def collect(axis, subtree):
        if axis is not None:
            sizes.extend(leaf.shape[axis] for leaf in jax.tree.leaves(subtree) if is_array(leaf))

    jax.tree.map(collect, prefix(in_axes, args), args, is_leaf=is_none)
    return sizes


def prefix(in_axes: Any, args: tuple) -> Any:
    return tuple(in_axes) if isinstance(in_axes, (tuple, list)) else (in_axes,) * len(args)


def take_step(args: tuple, in_axes: Any, step: int) -> tuple:
    """Return what one step sees of the arguments."""

    def take(axis, subtree):
        def one(leaf):
            if axis is None or not is_array(leaf):
                return leaf
            place = (slice(None),) * (axis % leaf.ndim) + (step,)
            return jax.device_put(np.asarray(leaf)[place]) if is_concrete(leaf) else leaf[place]

        return jax.tree.map(one, subtree)

    return jax.tree.map(take, prefix(in_axes, args), args, is_leaf=is_none)


def stack(axis: int | None, outputs: list[Any]) -> Any:
    if axis is None:
        return outputs[0]

    def stacked(*leaves):
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        if all(map(is_concrete, leaves)):
            return jax.device_put(np.stack([np.asarray(leaf) for leaf in leaves], axis))
        return jnp.stack(leaves, axis)

    return jax.tree.map(stacked, *outputs)


def loop(
    fun, args, in_axes=1, out_axes=1, kwargs=None, time=None, mask=None, rows=None, keep=False
):
    """Return the stacked outputs of `fun`, step after step.

    Args:
        fun: the step function.
        args: positional arguments.
        in_axes: a prefix of axes for `args`.
        out_axes: a prefix of axes for the output.
        kwargs: passed to every step.
        time: the number of steps, where nothing is mapped.
        mask: bool `(batch, time, ...)`: the output of masked rows is replaced with zeros.
        rows: a prefix of axes: where the rows are in the output of a step. Default: 0.
        keep: leave the outputs of masked rows.
    """
    time = time if time is not None else steps_of(args, in_axes)[0]
    outputs = []
    for step in range(time):
        output = fun(*take_step(args, in_axes, step), **(kwargs or {}))
        if mask is not None and not keep:
            real = take_step((mask,), 1, step)[0].reshape(mask.shape[0], -1).any(-1)
            output = without_masked(output, real, 0 if rows is None else rows)
        outputs.append(output)
    separate = [[] for _ in jax.tree.leaves(out_axes, is_leaf=is_none)]
    structure = jax.tree.structure(out_axes, is_leaf=is_none)
    for output in outputs:
        for part, piece in zip(separate, structure.flatten_up_to(output), strict=True):
            part.append(piece)
    axes = jax.tree.leaves(out_axes, is_leaf=is_none)
    return structure.unflatten([stack(a, part) for a, part in zip(axes, separate, strict=True)])


def without_masked(output, real, rows):
    def zero(axis, subtree):
        def one(leaf):
            keep = real.reshape([-1 if i == axis else 1 for i in range(leaf.ndim)])
            return jnp.where(keep, leaf, jnp.zeros_like(leaf))

        return jax.tree.map(one, subtree)

    return jax.tree.map(zero, rows, output)


def random_like(leaf, seed):
    """Return a fixed random array of a leaf's shape and inexact dtype."""
    rng = np.random.default_rng(seed)
    value = rng.normal(size=leaf.shape)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        value = value + 1j * rng.normal(size=leaf.shape)
    return jnp.asarray(value.astype(leaf.dtype))


def value_and_vjp(fun, operands):
    """Return the output of `fun(*operands)`, and the vjp with a fixed random cotangent.

    The gradient runs over every inexact leaf of `operands`, from every inexact leaf of the output.
    """
    leaves, tree = jax.tree.flatten(operands)
    inexact = [is_array(x) and jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]

    def run(chosen):
        chosen = iter(chosen)
        merged = [next(chosen) if yes else x for yes, x in zip(inexact, leaves, strict=True)]
        output = fun(*jax.tree.unflatten(tree, merged))
        flat = [y for y in jax.tree.leaves(output) if jnp.issubdtype(y.dtype, jnp.inexact)]
        return flat, output

    chosen = [x for yes, x in zip(inexact, leaves, strict=True) if yes]
    flat, pullback, output = jax.vjp(run, chosen, has_aux=True)
    cotangents = [random_like(y, seed) for seed, y in enumerate(flat)]
    return output, pullback(cotangents)[0]


def assert_same(actual, expected, scale=1.0):
    """Assert equal structure, shapes and dtypes, and values equal up to rounding."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True)
    for (path, ours), theirs in pairs:
        where = jax.tree_util.keystr(path)
        assert ours.shape == theirs.shape, (where, ours.shape, theirs.shape)
        assert ours.dtype == theirs.dtype, (where, ours.dtype, theirs.dtype)
        if jnp.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        tolerance = scale * TOLERANCE.get(str(ours.dtype), 0.0)
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        if tolerance and ours.dtype.itemsize < 4:
            ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=where)
