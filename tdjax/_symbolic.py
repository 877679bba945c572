"""Symbolic sizes: a name for "any number of rows".

The one place that touches JAX's symbolic dimensions beyond `jax.export.symbolic_shape`: the
evaluation of a dimension at a size has no public name (tests/test_symbolic.py watches it).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
from jax import export


def is_symbolic(size: Any) -> bool:
    """Say whether a size is an expression over symbols rather than an int."""
    return not isinstance(size, int) and hasattr(size, "get_vars")


def fresh_rows(shapes: Iterable[tuple]) -> Any:
    """Return a new symbol for the number of rows, usable beside the symbols in `shapes`."""
    known: set[str] = set()
    scope = None
    for size in (size for shape in shapes for size in shape if is_symbolic(size)):
        known |= set(size.get_vars())
        scope = size.scope
    name = "rows"
    while name in known:
        name += "_"
    (symbol,) = export.symbolic_shape(name, scope=scope)
    return symbol


def mentions(size: Any, symbol: Any) -> bool:
    """Say whether a size depends on the symbol."""
    return is_symbolic(size) and str(symbol) in size.get_vars()


def substitute(size: Any, symbol: Any, value: Any) -> Any:
    """Return the size with the symbol replaced by a value (an int or another size)."""
    if not mentions(size, symbol):
        return size
    if size == symbol:
        return value
    others = size.get_vars() - {str(symbol)}
    environment = {name: export.symbolic_shape(name, scope=size.scope)[0] for name in others}
    result = size._evaluate({**environment, str(symbol): value})
    return result if is_symbolic(result) else int(result)


def is_concrete_shape(shape: tuple) -> bool:
    """Say whether every size of a shape is an int."""
    return not any(is_symbolic(size) for size in shape)


def reshaped(shape: tuple, like: Any) -> jax.ShapeDtypeStruct:
    """Return the description of an array of another shape, with `like`'s dtype and weakness."""
    aval = jax.typeof(like)
    return jax.ShapeDtypeStruct(shape, aval.dtype, weak_type=getattr(aval, "weak_type", False))
