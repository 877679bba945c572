"""Outside of jit, a strategy's program is compiled once and remembered under what it computes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import jax

from tdjax.core.recent import Recent

_compiled: Recent[Callable[..., Any]] = Recent(128)


def execute(
    key: Callable[[], Hashable], make: Callable[[], Callable[..., Any]], *operands: Any
) -> Any:
    """Call `make()(*operands)`, compiled if all operands are concrete.

    Without this, a loop would be compiled at every call, since every call makes a new function.

    Args:
        key: returns a key that is equal only for functions that compute the same for operands of
            the same types. Functions that differ in derivative rules alone may share it: nothing is
            differentiated here. With a false key nothing is remembered.
        make: returns a pure function; it is not asked for one that is compiled already.
        operands: pytrees of arrays.
    """
    leaves = jax.tree.leaves(operands)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves) or not (name := key()):
        return make()(*operands)
    return _compiled.made(name, lambda: jax.jit(make()))(*operands)
