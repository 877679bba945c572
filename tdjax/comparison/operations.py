"""How large a program is, before it is compiled."""

from __future__ import annotations

from typing import Any


def operations(program: Any) -> int:
    """Return how many equations a jaxpr has, those of inner programs included."""
    eqns = getattr(program, "eqns", None)
    if eqns is None:
        return 0
    inner = (value for eqn in eqns for value in eqn.params.values())
    each = (part for value in inner for part in (value if isinstance(value, tuple) else (value,)))
    return len(eqns) + sum(operations(part) for part in each)
