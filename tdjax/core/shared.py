"""Arrays that many steps or blocks share, with gradients that are added up in float32.

JAX adds up the gradients g_1 ... g_n that blocks give for a shared array in the array's own dtype,
here with a relative rounding error d_k each time, of root mean square u (0.2% in bfloat16):

    s_k = (s_(k-1) + g_k) (1 + d_k)        error = sum over k of d_k s_k

Where the g_k are of random sign, s_k grows like sqrt(k) |g|, and the error is sqrt(n / 2) times
u |s_n|, the error of a whole fold, which rounds once: 16 times for 512 blocks. Where they are of
one sign, it is sqrt(n / 3) times that.

Added up in float32 and rounded once, what is left is that each g_k has been rounded by the block's
own operations, and the last rounding, all of them independent of each other:

    error^2 = sum over k of (u |g_k|)^2 + (u |s_n|)^2

For random signs both parts are (u sqrt(n) |g|)^2: sqrt(2) times the error of a whole fold, for any
n. It is less for one sign, and where XLA leaves out the first rounding, as it may and mostly does.

And then it is no more than the error of the whole fold, as that of what a block does not round.

So blocks get the array in two parts (`Split`). One is the array without its gradients, which is
what blocks compute with. The other is a copy in float32 that has the gradients, and is never
computed, for nothing reads its value. Blocks keep the parts apart through products and the like
(`split.py`). Arrays of other dtypes are given as they are.

Loops that are differentiated in reverse mode twice are beyond this: JAX joins the parts outside of
the loop the first time, and the second time adds up in the array's dtype. Forward mode over reverse
mode, which `jax.hessian` takes, is added up in float32.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.arrays import cut


def dtype_of_sums(dtype: Any) -> Any:
    """Return the dtype in which sums are computed that end in this one."""
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if narrow else dtype


def is_summed_wide(array: Any) -> bool:
    """Say whether an array has gradients, and they are added up in another dtype than its own."""
    return isinstance(array, jax.core.Tracer) and dtype_of_sums(array.dtype) != array.dtype


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """An array in two parts.

    Attributes:
        array: the array without its gradients; None where the copy is linear, and has the value.
        copy: in the dtype of sums; it has the gradients, and nothing reads its value.
        dtype: that of the array.
    """

    array: Any
    copy: Any
    dtype: Any

    def whole(self, dtype: Any = None) -> Any:
        """Return the array, in its own dtype or that of the copy."""
        from tdjax.core.view import view_p  # needs jax.extend, 20 ms to import

        array, dtype = self.array, dtype or self.dtype
        if array is None:
            return self.copy.astype(self.dtype).astype(dtype)
        return view_p.single(array.astype(dtype), self.copy)

    def moved(self, move: Callable[[Any], Any]) -> Split:
        """Return what a linear function gives that moves the array about, or repeats it."""
        array = None if self.array is None else move(self.array)
        return dataclasses.replace(self, array=array, copy=move(self.copy))


jax.tree_util.register_dataclass(Split, ["array", "copy"], ["dtype"])

_known: contextvars.ContextVar[Sequence[tuple[Any, Split]]] = contextvars.ContextVar(
    "tdjax_known_splits", default=()
)


def split(array: Any) -> Any:
    """Return an array as a `Split` if it `is_summed_wide`, and else as it is.

    It may be shared by any number of blocks: what they give for it is added up, and rounded once.
    """
    if not is_summed_wide(array):
        return array
    known = as_joined(array)
    if known is not array:
        return known
    copy = array.astype(dtype_of_sums(array.dtype))
    return Split(cut(array), copy, array.dtype)


def as_joined(array: Any) -> Any:
    """Return the `Split` that an array was before `joining` joined it, and any other as it is."""
    return next((parts for whole, parts in _known.get() if whole is array), array)


def joined(values: Iterable[Any]) -> list[Any]:
    """Return values, of which some may be split, as arrays."""
    return [value.whole() if isinstance(value, Split) else value for value in values]


@contextlib.contextmanager
def joining(values: Sequence[Any]) -> Iterator[list[Any]]:
    """Give values as arrays, which `split`, inside, splits as they have been.

    So what is added up in blocks, and then over devices, is not rounded in between.
    """
    arrays = joined(values)
    pairs = zip(arrays, values, strict=True)
    token = _known.set((*_known.get(), *(pair for pair in pairs if isinstance(pair[1], Split))))
    try:
        yield arrays
    finally:
        _known.reset(token)


def repeated(lay: Callable[[Any], Any], array: Any) -> Any:
    """Return `lay(array)`, which repeats an array; the gradients of all copies are added up."""
    parts = split(array)
    return lay(array) if parts is array else parts.moved(lay).whole()
