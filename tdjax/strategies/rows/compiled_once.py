"""Outside of jit, a strategy's program is compiled once and remembered under what it computes."""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable
from typing import Any

import jax

_KEPT = 128
_compiled: collections.OrderedDict[Hashable, Callable[..., Any]] = collections.OrderedDict()


def execute(key: Callable[[], Hashable], function: Callable[..., Any], *operands: Any) -> Any:
    """Call `function(*operands)`, compiled if all operands are concrete.

    Without this, a loop would be compiled at every call, since every call makes a new function.

    Args:
        key: returns a key that is equal only for functions that compute the same for operands of
            the same types. Functions that differ in derivative rules alone may share it: nothing is
            differentiated here. With a false key nothing is remembered.
        function: a pure function.
        operands: pytrees of arrays.
    """
    leaves = jax.tree.leaves(operands)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves) or not (name := key()):
        return function(*operands)
    compiled = _compiled.pop(name, None) or jax.jit(function)
    _compiled[name] = compiled  # the newest is last
    if len(_compiled) > _KEPT:
        _compiled.popitem(last=False)
    return compiled(*operands)
