"""What is known of an array without its values: its kind, its sizes and the devices that hold it.

Sizes may be symbolic, as `jax.export` traces with them: expressions, not ints.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np


def is_array(leaf: Any) -> bool:
    """Say whether a leaf can be mapped: arrays can, Python and NumPy scalars cannot."""
    return isinstance(leaf, (jax.Array, np.ndarray))


def take_arrays(tree: Any) -> tuple[list[Any], Callable[[Iterable[Any]], Any]]:
    """Return the arrays of a pytree, and a function that puts others in their place."""
    leaves, structure = jax.tree.flatten(tree)

    def put_arrays(arrays: Iterable[Any]) -> Any:
        others = iter(arrays)
        merged = [next(others) if is_array(leaf) else leaf for leaf in leaves]
        return jax.tree.unflatten(structure, merged)

    return [leaf for leaf in leaves if is_array(leaf)], put_arrays


def is_key(array: Any) -> bool:
    """Say whether an array holds typed keys."""
    return jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)


def is_inexact(leaf: Any) -> bool:
    """Say whether a leaf is of a floating point or complex dtype, and can be differentiated."""
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, np.inexact)


def cut(array: Any) -> Any:
    """Return an array as it is, to which no gradient flows.

    `jax.lax.stop_gradient` does the same, but for `jax.linear_transpose`, which it stops.
    """
    from tdjax.core.view import cut_p  # needs jax.extend, 20 ms to import

    return cut_p.single(array) if is_inexact(array) else array


def words_of(array: Any) -> Any:
    """Return an array as it is, and of keys the words that they are made of."""
    return jax.random.key_data(array) if is_key(array) else array


def keys_of(words: Any, like: Any) -> Any:
    """Return keys made of words if `like` is of their kind, an array or a type; else the words."""
    if not is_key(like):
        return words
    impls: list[Any] = []
    # Only an array tells what kind of key it is, not its type.
    struct = jax.ShapeDtypeStruct(like.shape, like.dtype)
    jax.eval_shape(lambda key: impls.append(jax.random.key_impl(key)), struct)
    return jax.random.wrap_key_data(words, impl=impls[0])


def is_symbolic(size: Any) -> bool:
    """Say whether a size is an expression over symbols rather than an int."""
    return not isinstance(size, int) and hasattr(size, "get_vars")


def is_concrete_shape(shape: tuple) -> bool:
    """Say whether every size of a shape is an int."""
    return not any(is_symbolic(size) for size in shape)


def reshaped(shape: tuple, like: Any) -> Any:
    """Return the description of an array of another shape, with `like`'s dtype and weakness.

    Inside `jax.shard_map`, an array's type also says along which axes of the mesh it varies. That
    is kept: without it JAX would take the array for one that all devices share.
    """
    aval: Any = like if isinstance(like, jax.core.AbstractValue) else jax.typeof(like)
    if varying(aval):
        spec = jax.sharding.PartitionSpec(*[None] * len(shape))
        return aval.update(shape=tuple(shape), sharding=aval.sharding.update(spec=spec))
    return _type_of(tuple(shape), aval.dtype, getattr(aval, "weak_type", False))


@functools.lru_cache(1024)
def _type_of(shape: tuple, dtype: Any, weak_type: bool) -> Any:
    return jax.core.ShapedArray(shape, dtype, weak_type=weak_type)


def varying(array: Any) -> frozenset[Any]:
    """Return the axes of a mesh along which an array, or its type, varies in `jax.shard_map`."""
    aval = array if isinstance(array, jax.core.AbstractValue) else jax.typeof(array)
    return getattr(getattr(aval, "manual_axis_type", None), "varying", frozenset())


def vary(arrays: Iterable[Any], axes: frozenset[Any]) -> list[Any]:
    """Return arrays as ones that vary along these axes of a mesh."""
    return [_vary(array, axes - varying(array)) for array in arrays]


def _vary(array: Any, axes: frozenset[Any]) -> Any:
    return jax.lax.pcast(array, tuple(sorted(axes)), to="varying") if axes else array


def has_mesh_axes(array: Any) -> bool:
    """Say whether an array's type names mesh axes, as on an explicit mesh.

    Axes of such an array cannot be merged.
    """
    return any(axes is not None for axes in jax.typeof(array).sharding.spec)


def on_several_devices(arrays: Any) -> bool:
    """Say whether any array of a pytree is held by more than one device.

    Such an array cannot be handed to another process.
    """
    shardings = (getattr(array, "sharding", None) for array in jax.tree.leaves(arrays))
    return any(getattr(sharding, "num_devices", 1) > 1 for sharding in shardings)
