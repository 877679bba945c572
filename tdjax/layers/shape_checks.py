"""Flax's check of a parameter's shape, made once for all traces of a call.

Whenever a Linen module reads a parameter, Flax evaluates the shape that its initializer would give,
and compares. That takes half the time of tracing a layer. A proof traces the layer a second time,
with the same parameters, so the shapes found by the first trace are remembered; those of JAX's own
initializers, which depend on their arguments alone, for later calls as well.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.core.scope import Scope

from tdjax.core.recent import Recent

Known = Recent[list[tuple]]
_JAX = ("jax.nn.initializers", "jax._src.nn.initializers")
_PLAIN = (int, float, str, type, types.NoneType, np.dtype)


def check_once(scopes: Any, known: Known) -> None:
    """Make scopes, and those below them, remember in `known` which shapes initializers give."""
    for scope in jax.tree.leaves(scopes):
        scope.__class__ = _RememberingScope
        scope.shapes_known = known


class _RememberingScope(Scope):
    shapes_known: Known

    def push(self, *args: Any, **kwargs: Any) -> Scope:
        child = super().push(*args, **kwargs)
        check_once(child, self.shapes_known)
        return child

    def param(
        self, name: str, init_fn: Callable[..., Any], *args: Any, unbox: bool = True, **kwargs: Any
    ) -> Any:
        key = _key(init_fn, args, kwargs)
        if key is None or not self.has_variable("params", name):
            return super().param(name, init_fn, *args, unbox=unbox, **kwargs)
        value = nn.unbox(self.get_variable("params", name))
        shapes = [leaf.shape for leaf in jax.tree.leaves(value)]
        lasting = _lasting(key)
        known, key = (self.shapes_known, key) if lasting is None else (lasting, key[1:])
        if known.get(key) != shapes:
            super().param(name, init_fn, *args, unbox=unbox, **kwargs)
            known.keep(key, shapes)
        else:
            self.reserve(name, "params")
        return value if unbox else self.get_variable("params", name)


def _key(init_fn: Callable[..., Any], *given: Any) -> tuple | None:
    """Return what determines an initializer's shape, hashable; None if it cannot be hashed."""
    leaves, tree = jax.tree.flatten(given)
    key = (init_fn, *leaves, tree)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _lasting(key: tuple) -> Known | None:
    """Return what later calls know of an initializer that depends on its arguments alone."""
    init_fn, *leaves, _ = key
    own = isinstance(init_fn, types.FunctionType) and init_fn.__globals__["__name__"] in _JAX
    if not own or not all(isinstance(leaf, _PLAIN) for leaf in leaves):
        return None
    return _of_jax.setdefault(init_fn, Recent(64))


_of_jax: weakref.WeakKeyDictionary[Any, Known] = weakref.WeakKeyDictionary()
