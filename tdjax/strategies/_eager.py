"""Outside of jit, a strategy's program is compiled once and remembered under what it computes."""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable
from typing import Any

import jax

_KEPT = 128
_compiled: collections.OrderedDict[Hashable, Callable[..., Any]] = collections.OrderedDict()


def execute(key: Hashable | None, function: Callable[..., Any], *operands: Any) -> Any:
    """Call `function(*operands)`, compiled if all operands are concrete.

    Without this, a loop would be compiled anew at every call, since every call makes a new one.

    Args:
        key: equal only for functions that compute the same for operands of the same types; it must
            not depend on derivative rules, which never run here. None: not to be remembered.
        function: pure.
        operands: pytrees of arrays.
    """
    leaves = jax.tree.leaves(operands)
    if key is None or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return function(*operands)
    compiled = _compiled.pop(key, None) or jax.jit(function)
    _compiled[key] = compiled  # the newest is last
    if len(_compiled) > _KEPT:
        _compiled.popitem(last=False)
    return compiled(*operands)
