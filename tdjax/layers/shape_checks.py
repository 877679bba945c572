"""Flax's check of a parameter's shape, made once for all traces of a call.

Whenever a Linen module reads a parameter, Flax evaluates the shape that its initializer would give,
and compares. That takes half the time of tracing a convolutional net. A proof traces the layer a
second time, with the same parameters, so the shapes found by the first trace are remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax.core.scope import Scope


def check_once(scopes: Any, known: dict[Any, list[tuple]]) -> None:
    """Make scopes, and those below them, remember in `known` which shapes initializers give."""
    for scope in jax.tree.leaves(scopes):
        scope.__class__ = _RememberingScope
        scope.shapes_known = known


class _RememberingScope(Scope):
    shapes_known: dict[Any, list[tuple]]

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
        if self.shapes_known.get(key) != shapes:
            super().param(name, init_fn, *args, unbox=unbox, **kwargs)
            self.shapes_known[key] = shapes
        else:
            self.reserve(name, "params")
        return value if unbox else self.get_variable("params", name)


def _key(*parts: Any) -> Any:
    """Return what determines an initializer's shape, hashable; None if it cannot be hashed."""
    leaves, tree = jax.tree.flatten(parts)
    key = (*leaves, tree)
    try:
        hash(key)
    except TypeError:
        return None
    return key
