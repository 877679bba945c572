"""Noise of rows that are spread over devices: a block draws what one device would have drawn.

**The problem.** A step draws from its key k for all its rows at once: entry p of `bits(k, (4, 3))`,
counted through the shape that is drawn, is hash(k, p). A device that holds rows 2 and 3 traces the
step on two rows, and `bits(k, (2, 3))` gives it the entries of rows 0 and 1 again:

    one device, (4, 3)     h0 h1  h2        device 0 must draw    h0 h1 h2  h3  h4  h5
                           h3 h4  h5        device 1 must draw    h6 h7 h8  h9 h10 h11
                           h6 h7  h8        bits(k, (2, 3)) gives h0 h1 h2  h3  h4  h5
                           h9 h10 h11

**The solution.** A block gets keys of a special kind: the words of k, followed by the number n of
the block. `find_noise` compares a trace on a block's rows with one on all rows, and lists the
shapes that are larger in the whole. Asked for such a shape, the key gives the block's part, from
entry n * size on along the axis that differs. Splitting and folding in act on k and keep n,

    split((k, n))[i] = (split(k)[i], n)        fold_in((k, n), d) = (fold_in(k, d), n)

so keys derived inside a layer know their block as well. Keys of rows, `split(k, rows)`, are a draw
like any other. `uniform`, `normal`, `bernoulli` and the like map bits to values entry by entry, so
equal bits give equal noise, and functions that draw need no change.

**The part, without the whole.** Threefry hashes every position by itself (where JAX has it
"partitionable", the default). With the strides S_j of the whole's shape, entry i of a block is at
position p(i) = sum_j S_j * (i_j + start * [j is the axis of rows]), and its bits are high XOR low,
the two words of hash(k, p(i)); see J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011. Other generators draw the whole, of which the block takes its part.
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

from tdjax.core.arrays import is_key
from tdjax.core.call import Call, Program, trace
from tdjax.core.errors import StrategyError
from tdjax.core.jaxpr import all_equations
from tdjax.partition.placement import Placement

Shape = tuple[int, ...]
Draw = tuple[str, Shape]
"""`random_bits` or `random_split`, and the shape that is drawn."""

_KIND = "rows"


@dataclasses.dataclass(frozen=True)
class Noise:
    """The noise that has rows.

    Attributes:
        shapes: each draw of a block, and the shape that it has in the whole.
    """

    shapes: tuple[tuple[Draw, Shape], ...]

    def give_keys(self, call: Call, where: Placement) -> Call:
        """Return the call of a block, traced, with keys of steps that know its rows."""
        block = jax.lax.axis_index(where.batch)
        leaves = tuple(
            self.keys_of_block(leaf, block) if role == "step" and is_key(leaf) else leaf
            for leaf, role in zip(call.leaves, call.roles, strict=True)
        )
        call = call.replace(leaves=leaves)
        program = trace(call, call.batch)
        self.check(call.title, program)
        return call.replace(traced=program)

    def keys_of_block(self, keys: Any, block: Any) -> Any:
        """Return keys that give a block's rows of the noise that `keys` give."""
        words = jax.random.key_data(keys)
        impl, tag = jax.random.key_impl(keys), derived_tag(_KIND, keys)
        spec = _block_spec(impl, tag, words.shape[keys.ndim :], self.shapes)
        number = jnp.broadcast_to(block.astype(words.dtype), (*keys.shape, 1))
        flat = words.reshape(*keys.shape, -1)
        return jax.random.wrap_key_data(jnp.concatenate([flat, number], -1), impl=spec)

    def check(self, title: str, program: Program) -> None:
        """Raise StrategyError if noise that has rows is drawn from keys that do not know them."""
        for keys, draw in _draws(program.jaxpr):
            if draw in dict(self.shapes) and not _knows_rows(keys):
                raise StrategyError(
                    f"{title} draws noise of shape {draw[1]}, which has rows, from {keys.dtype} "
                    f"keys that cannot be told which rows a device has: give every step a typed "
                    f"key, jax.random.split(jax.random.key(0), time), mapped over time; or spread "
                    f"only the steps, partition=PartitionSpec(None, time)."
                )


def derived_tag(kind: str, keys: Any) -> str:
    """Return a tag for keys that hold other keys: both types end alike, as `key<rows fry>`."""
    return f"{kind} {str(keys.dtype).removeprefix('key<').removesuffix('>')}"


def _knows_rows(leaf: Any) -> bool:
    return str(leaf.dtype).startswith(f"key<{_KIND} ")


def restore_key(leaf: Any) -> Any:
    """Return an array of a block, with keys of the original kind if it holds keys."""
    if not _knows_rows(leaf):
        return leaf
    impl, shape = _originals[jax.random.key_impl(leaf)]
    words = jax.random.key_data(leaf)[..., :-1]
    return jax.random.wrap_key_data(words.reshape(*leaf.shape, *shape), impl=impl)


def _draws(jaxpr: Any) -> Iterator[tuple[Any, Draw]]:
    for eqn in all_equations(jaxpr):
        if eqn.primitive.name in ("random_bits", "random_split"):
            yield eqn.invars[0].aval, (eqn.primitive.name, tuple(eqn.params["shape"]))


def draws(jaxpr: Any) -> list[Draw]:
    """Return every draw of noise, and every split of a key, in order."""
    return [draw for _, draw in _draws(jaxpr)]


def find_noise(title: str, whole: Program, block: Program) -> Noise | None:
    """Return the noise that has more rows in the whole than in a block; None for none.

    Raises:
        StrategyError: it is not clear which noise has rows.
    """
    large, small = draws(whole.jaxpr), draws(block.jaxpr)
    pairs = {(draw, shape) for draw, (_, shape) in zip(small, large, strict=False)}
    rows = dict(sorted(pair for pair in pairs if pair[0][1] != pair[1]))
    if not rows:
        return None
    kinds = [[kind for kind, _ in drawn] for drawn in (small, large)]
    fits = all(_row_axis(shape, rows[kind, shape]) is not None for kind, shape in rows)
    if kinds[0] != kinds[1] or not fits or any(shape != rows.get(d, shape) for d, shape in pairs):
        shapes = [[shape for _, shape in drawn] for drawn in (small, large)]
        raise StrategyError(
            f"{title} draws noise of shapes {shapes[0]} on a device's rows and {shapes[1]} on all "
            f"of them; it is not clear which of it belongs to which rows. Spread only the steps, "
            f"partition=PartitionSpec(None, time)."
        )
    return Noise(tuple(rows.items()))


def _row_axis(small: Shape, large: Shape) -> int | None:
    """Return the one axis along which a block's noise is part of the whole."""
    if len(small) != len(large):
        return None
    axes = [axis for axis, (a, b) in enumerate(zip(small, large, strict=True)) if a != b]
    return axes[0] if len(axes) == 1 and large[axes[0]] % small[axes[0]] == 0 else None


def _hashes_positions(impl: Any, whole: Shape, bit_width: int) -> bool:
    """Say whether a number depends on the key and its position alone, so that a part is cheap."""
    small = math.prod(whole) < 2**32 and bit_width <= 32
    partitionable = getattr(jax.config, "jax_threefry_partitionable", False)
    return str(impl) == "threefry2x32" and partitionable and small


def _hash_positions(words: Any, size: Shape, whole: Shape, axis: int, start: Any) -> Any:
    """Return the numbers of a Threefry key from `start` on along an axis of the whole."""
    from jax.extend.random import threefry_2x32

    position = jnp.zeros(size, jnp.uint32)
    for each, stride in enumerate(math.prod(whole[each + 1 :]) for each in range(len(whole))):
        index = jax.lax.broadcasted_iota(jnp.uint32, size, each)
        position = position + (index + start if each == axis else index) * np.uint32(stride)
    counts = jnp.concatenate([jnp.zeros(position.size, jnp.uint32), position.reshape(-1)])
    high, low = jnp.split(threefry_2x32(words, counts), 2)
    return (high ^ low).reshape(size)


@functools.lru_cache(maxsize=256)
def _block_spec(
    impl: Any, tag: str, word_shape: Shape, shapes: tuple[tuple[Draw, Shape], ...]
) -> Any:
    """Return the kind of keys that hold a key of `impl` and the number of a block."""
    from jax.extend.random import define_prng_impl  # jax.extend takes 20 ms to import

    wholes = dict(shapes)

    def key_of(data: Any) -> Any:
        return jax.random.wrap_key_data(data[:-1].reshape(word_shape), impl=impl)

    def with_block(keys: Any, data: Any) -> Any:
        words = jax.random.key_data(keys).reshape(*keys.shape, -1)
        return jnp.concatenate([words, jnp.broadcast_to(data[-1:], (*keys.shape, 1))], -1)

    def part(whole: Any, size: Shape, data: Any) -> Any:
        axis = _row_axis(size, whole.shape)
        if axis is None:
            return whole
        start = (data[-1] * size[axis]).astype(jnp.int32)
        return jax.lax.dynamic_slice_in_dim(whole, start, size[axis], axis)

    def seed(_: Any) -> Any:
        raise NotImplementedError("a block's key is made of a key, never of a seed")

    def fold_in(data: Any, number: Any) -> Any:
        return with_block(jax.random.fold_in(key_of(data), number), data)

    def split(data: Any, size: Shape) -> Any:
        whole = wholes.get(("random_split", tuple(size)), size)
        return with_block(part(jax.random.split(key_of(data), whole), size, data), data)

    def random_bits(data: Any, bit_width: int, size: Shape) -> Any:
        size = tuple(size)
        whole, kind = wholes.get(("random_bits", size), size), f"uint{bit_width}"
        axis = _row_axis(size, whole)
        if axis is not None and _hashes_positions(impl, whole, bit_width):
            start = data[-1] * size[axis]
            return _hash_positions(data[:-1], size, whole, axis, start).astype(kind)
        return part(jax.random.bits(key_of(data), whole, kind), size, data)

    made = define_prng_impl(
        key_shape=(math.prod(word_shape) + 1,),
        seed=seed,
        split=split,
        random_bits=random_bits,
        fold_in=fold_in,
        name=f"tdjax_rows_{impl}_{shapes}",
        tag=tag,
    )
    _originals[made] = impl, word_shape
    return made


_originals: dict[Any, tuple[Any, Shape]] = {}
