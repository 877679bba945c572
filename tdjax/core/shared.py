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

So every block gets its own view of the array (`view.py`). Its value is the array's. Its gradient is
that of a copy in float32, which is never computed, for nothing reads its value; it is only there to
have a gradient. Arrays of other dtypes are given as they are.

Loops that are differentiated in reverse mode twice are beyond this: JAX takes the views out of the
loop the first time, and the second time adds up in the array's dtype. Forward mode over reverse
mode, which `jax.hessian` takes, is added up in float32.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Parts = tuple[Any, Any]
"""An array without its gradients, and a copy that has them and whose value is not read."""


def dtype_of_sums(dtype: Any) -> Any:
    """Return the dtype in which sums are computed that end in this one."""
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if narrow else dtype


def is_summed_wide(array: Any) -> bool:
    """Say whether an array has gradients, and they are added up in another dtype than its own."""
    return isinstance(array, jax.core.Tracer) and dtype_of_sums(array.dtype) != array.dtype


_joined: contextvars.ContextVar[Sequence[tuple[Any, Parts]]] = contextvars.ContextVar(
    "tdjax_joined", default=()
)


def split(array: Any) -> Parts:
    """Return an array that `is_summed_wide` without its gradients, and a copy that has them."""
    known = next((parts for whole, parts in _joined.get() if whole is array), None)
    return known or (jax.lax.stop_gradient(array), array.astype(dtype_of_sums(array.dtype)))


def join(parts: Parts) -> Any:
    """Return the array of which `split` made two; it may be joined any number of times."""
    from tdjax.core.view import view_p  # needs jax.extend, 20 ms to import

    return view_p.bind(*parts)


@contextlib.contextmanager
def joining(arrays: Sequence[Any]) -> Iterator[list[Any]]:
    """Give arrays, those that are in two parts joined; inside, `split` knows their parts.

    So what is added up in blocks, and then over devices, is not rounded in between.
    """
    whole = [join(array) if isinstance(array, tuple) else array for array in arrays]
    known = [pair for pair in zip(whole, arrays, strict=True) if isinstance(pair[1], tuple)]
    token = _joined.set((*_joined.get(), *known))
    try:
        yield whole
    finally:
        _joined.reset(token)


def views(arrays: Iterable[Any]) -> Callable[[], list[Any]]:
    """Return a function that gives arrays, for one more of the blocks that share them.

    Their gradients, in all blocks together, are added up in `dtype_of_sums`, and rounded once.
    """
    parts = [(array, split(array) if is_summed_wide(array) else None) for array in arrays]
    return lambda: [array if pair is None else join(pair) for array, pair in parts]


def repeated(lay: Callable[[Any], Any], array: Any) -> Any:
    """Return `lay(array)`, which repeats an array; the gradients of all copies are added up."""
    if not is_summed_wide(array):
        return lay(array)
    array, copy = split(array)
    return join((lay(array), lay(copy)))
