"""A key for a program: programs with equal keys compute the same, whichever function was traced.

A function may compute something else at every call (a module switched to evaluation, a changed
global). Results are therefore remembered under the traced program, never under the function and
its shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tdjax.core.jaxpr import is_literal, visible_params
from tdjax.core.recent import Recent

_SMALL_BYTES = 4096
_PLAIN = (type(None), bool, int, str)


class Key:
    """What a program computes, hashed once: it is looked up several times a call."""

    __slots__ = ("_hash", "_value")

    def __init__(self, value: Any) -> None:
        self._value, self._hash = value, hash(value)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Key) and (self._hash, self._value) == (other._hash, other._value)


_keys: Recent[Key] = Recent()  # equal keys are one object, which compares at once


class _Identity:
    """Compares by identity, and keeps its object alive so that its address is not reused."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value


class _Unknown(Exception):
    pass


def fingerprint(closed: Any) -> Key | None:
    """Return the key of a closed jaxpr, or None where none can be given.

    Of the outermost constants only the types enter, not the values: they are given as arguments
    when the program runs. Custom derivative rules do not enter either: every trace makes new ones,
    so a program remembered under this key may be run, but not differentiated.
    """
    return _fingerprint(closed, [])


def lasting(closed: Any) -> Callable[[], bool] | None:
    """Return what says whether a program is still what it is now; None if it has no key.

    It holds NumPy arrays, which may change.
    """
    arrays: list[np.ndarray] = []
    if _fingerprint(closed, arrays) is None:
        return None
    held = [(array, np.asarray(array).tobytes()) for array in arrays]
    return lambda: all(np.asarray(array).tobytes() == now for array, now in held)


def _fingerprint(closed: Any, arrays: list[np.ndarray]) -> Key | None:
    try:
        consts = tuple(const.aval for const in closed.jaxpr.constvars)
        key = Key(_jaxpr_key(closed.jaxpr, consts, arrays))
    except _Unknown:
        return None
    return _keys.made(key, lambda: key)


def program_key(program: Any) -> Any:
    """Return a hashable key of a program inside another, constants included; None if unknown."""
    try:
        return _value_key(program, [])
    except _Unknown:
        return None


def _jaxpr_key(jaxpr: Any, consts: tuple, arrays: list[np.ndarray]) -> tuple:
    numbers: dict[Any, int] = {}

    def define(variable: Any) -> Any:
        numbers[variable] = len(numbers)
        return variable.aval

    def use(atom: Any) -> Any:
        if is_literal(atom):
            return _value_key(atom.val, arrays), atom.aval
        return numbers[atom]

    inputs = tuple(define(v) for v in (*jaxpr.constvars, *jaxpr.invars))
    equations = tuple(
        (
            eqn.primitive,
            eqn.ctx,  # settings under which JAX computes it, whatever they are when it is run
            tuple(use(atom) for atom in eqn.invars),
            tuple((name, _value_key(value, arrays)) for name, value in visible_params(eqn).items()),
            tuple(define(v) for v in eqn.outvars),
        )
        for eqn in jaxpr.eqns
    )
    return consts, inputs, equations, tuple(use(atom) for atom in jaxpr.outvars)


def _inner_key(program: Any, arrays: list[np.ndarray]) -> Key:
    """Return the key of a program inside another, which is kept if nothing in it may change."""
    found: list[np.ndarray] = []
    consts = tuple(_value_key(const, found) for const in getattr(program, "consts", ()))
    key = Key(_jaxpr_key(getattr(program, "jaxpr", program), consts, found))
    arrays.extend(found)
    return key if found else _inner.keep(program, key)


_inner: Recent[Key] = Recent(1024)  # JAX traces a function that is compiled once for all its calls


def _value_key(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return the key of a value in a program; add to `arrays` those that may change in place."""
    if type(value) in _PLAIN:
        return type(value), value
    if hasattr(value, "eqns"):
        return _inner.get(value) or _inner_key(value, arrays)
    if isinstance(value, (tuple, list)):
        return type(value), tuple(_value_key(item, arrays) for item in value)
    if isinstance(value, dict):
        return tuple((key, _value_key(item, arrays)) for key, item in value.items())
    if isinstance(value, jax.Array):
        return _Identity(value)
    if hasattr(value, "__array__"):
        if not isinstance(value, np.generic):
            arrays.append(value)
        return _host_array_key(np.asarray(value))
    try:
        hash(value)
    except TypeError:
        return _Identity(value)
    return type(value), value


def _host_array_key(array: np.ndarray) -> tuple:
    # A NumPy array can change in place, so its bytes are compared, not its identity.
    if array.nbytes > _SMALL_BYTES:
        raise _Unknown
    return array.shape, array.dtype, array.tobytes()
