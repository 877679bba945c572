"""Noise of rows that are spread over devices: a block draws what one device would have drawn.

A step's noise depends on its key and on the shape of all its rows. A key of the kind made here
knows which rows its block has, and gives of the whole noise their part, so that nothing that draws
from it has to know.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.core.call import Call, Program, trace
from tdjax.core.errors import StrategyError
from tdjax.core.jaxpr import all_equations
from tdjax.partition.placement import Placement

Shape = tuple[int, ...]
_TAG = "rows"


@dataclasses.dataclass(frozen=True)
class Noise:
    """The noise that has rows.

    Attributes:
        shapes: of each draw, its shape in a block and in the whole.
    """

    shapes: tuple[tuple[Shape, Shape], ...]

    def of_block(self, call: Call, where: Placement) -> Call:
        """Return the call of a block whose steps have keys that know its rows; traced."""
        block = jax.lax.axis_index(where.batch)
        leaves = tuple(
            self.keys(leaf, block) if role == "step" and is_key(leaf) else leaf
            for leaf, role in zip(call.leaves, call.roles, strict=True)
        )
        call = dataclasses.replace(call, leaves=leaves)
        program = trace(call, call.batch)
        self.check(call.title, program)
        return dataclasses.replace(call, traced=program)

    def keys(self, keys: Any, block: Any) -> Any:
        """Return keys that give a block's rows of the noise that `keys` give."""
        words = jax.random.key_data(keys)
        spec = _spec(jax.random.key_impl(keys), words.shape[keys.ndim :], self.shapes)
        number = jnp.broadcast_to(block.astype(words.dtype), (*keys.shape, 1))
        flat = words.reshape(*keys.shape, -1)
        return jax.random.wrap_key_data(jnp.concatenate([flat, number], -1), impl=spec)

    def whole(self, output: Any) -> Any:
        """Return the output of a block, with the keys in it as the step was to see them."""
        return jax.tree.map(_as_given, output)

    def check(self, title: str, program: Program) -> None:
        """Raise StrategyError if rows draw from keys that do not know them."""
        known = {small for small, _ in self.shapes}
        for keys, shape in _draws(program):
            if shape in known and not _knows_rows(keys):
                raise StrategyError(
                    f"{title} draws noise of shape {shape}, which has rows, from {keys.dtype} keys "
                    f"that cannot be told which rows a device has: give every step a typed key, "
                    f"jax.random.split(jax.random.key(0), time), mapped over time; or spread the "
                    f"steps alone, partition=PartitionSpec(None, time)."
                )


def is_key(leaf: Any) -> bool:
    """Say whether an array holds typed keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _knows_rows(leaf: Any) -> bool:
    return str(leaf.dtype) == f"key<{_TAG}>"


def _as_given(leaf: Any) -> Any:
    if not _knows_rows(leaf):
        return leaf
    impl, shape = _given[jax.random.key_impl(leaf)]
    words = jax.random.key_data(leaf)[..., :-1]
    return jax.random.wrap_key_data(words.reshape(*leaf.shape, *shape), impl=impl)


def draws_noise(program: Program) -> bool:
    """Say whether a program draws any noise."""
    return any(True for _ in _draws(program))


def find_noise(title: str, whole: Program, block: Program) -> Noise | None:
    """Return the noise that has more rows in the whole than in a block; None for none.

    Raises:
        StrategyError: it is not clear which noise has rows.
    """
    large = [shape for _, shape in _draws(whole)]
    small = [shape for _, shape in _draws(block)]
    pairs = set(zip(small, large, strict=False))
    rows = tuple(sorted(pair for pair in pairs if pair[0] != pair[1]))
    if not rows:
        return None
    fits = len(large) == len(small) and all(_along(*pair) is not None for pair in rows)
    others = {small for small, large in pairs if small == large}
    if not fits or len(dict(rows)) != len(rows) or others & set(dict(rows)):
        raise StrategyError(
            f"{title} draws noise of shapes {small} on a device's rows and {large} on all of them; "
            f"it is not clear which of it belongs to which rows. Spread the steps alone, "
            f"partition=PartitionSpec(None, time)."
        )
    return Noise(rows)


def _draws(program: Program) -> Iterator[tuple[Any, Shape]]:
    for eqn in all_equations(program.jaxpr):
        if eqn.primitive.name == "random_bits":
            yield eqn.invars[0].aval, tuple(eqn.params["shape"])


def _along(small: Shape, large: Shape) -> int | None:
    """Return the one axis along which a block's noise is part of the whole."""
    if len(small) != len(large):
        return None
    axes = [axis for axis, (a, b) in enumerate(zip(small, large, strict=True)) if a != b]
    return axes[0] if len(axes) == 1 and large[axes[0]] % small[axes[0]] == 0 else None


def _counts_alone(impl: Any, whole: Shape, bit_width: int) -> bool:
    """Say whether every number comes from the key and its place alone, so that a part can."""
    small = math.prod(whole) < 2**32 and bit_width <= 32
    by_place = getattr(jax.config, "jax_threefry_partitionable", False)
    return str(impl) == "threefry2x32" and by_place and small


def _part(words: Any, size: Shape, whole: Shape, axis: int, start: Any) -> Any:
    """Return the numbers from `start` on along an axis of what a Threefry key gives.

    Number i is the hash of i, high and low word, both words of it put together.
    """
    from jax.extend.random import threefry_2x32

    place = jnp.zeros(size, jnp.uint32)
    for each, stride in enumerate(math.prod(whole[each + 1 :]) for each in range(len(whole))):
        index = jax.lax.broadcasted_iota(jnp.uint32, size, each)
        place = place + (index + start if each == axis else index) * np.uint32(stride)
    counts = jnp.concatenate([jnp.zeros(place.size, jnp.uint32), place.reshape(-1)])
    high, low = jnp.split(threefry_2x32(words, counts), 2)
    return (high ^ low).reshape(size)


@functools.lru_cache(maxsize=256)
def _spec(impl: Any, word_shape: Shape, shapes: tuple[tuple[Shape, Shape], ...]) -> Any:
    from jax.extend.random import define_prng_impl  # jax.extend takes 20 ms to import

    wholes = dict(shapes)

    def key_of(data: Any) -> Any:
        return jax.random.wrap_key_data(data[:-1].reshape(word_shape), impl=impl)

    def with_block(keys: Any, data: Any) -> Any:
        words = jax.random.key_data(keys).reshape(*keys.shape, -1)
        return jnp.concatenate([words, jnp.broadcast_to(data[-1:], (*keys.shape, 1))], -1)

    def seed(_: Any) -> Any:
        raise NotImplementedError("a block's key is made of a key, never of a seed")

    def fold_in(data: Any, number: Any) -> Any:
        return with_block(jax.random.fold_in(key_of(data), number), data)

    def split(data: Any, count: Shape) -> Any:
        return with_block(jax.random.split(key_of(data), count), data)

    def random_bits(data: Any, bit_width: int, size: Shape) -> Any:
        size = tuple(size)
        whole, kind = wholes.get(size, size), f"uint{bit_width}"
        axis = _along(size, whole)
        if axis is None:
            return jax.random.bits(key_of(data), size, kind)
        start = data[-1] * size[axis]
        if _counts_alone(impl, whole, bit_width):
            return _part(data[:-1], size, whole, axis, start).astype(kind)
        bits = jax.random.bits(key_of(data), whole, kind)
        return jax.lax.dynamic_slice_in_dim(bits, start.astype(jnp.int32), size[axis], axis)

    made = define_prng_impl(
        key_shape=(math.prod(word_shape) + 1,),
        seed=seed,
        split=split,
        random_bits=random_bits,
        fold_in=fold_in,
        name=f"tdjax_rows_{impl}_{shapes}",
        tag=_TAG,
    )
    _given[made] = impl, word_shape
    return made


_given: dict[Any, tuple[Any, Shape]] = {}
