"""What a real program is, and how one is written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

BATCH, TIME = 6, 4


@dataclasses.dataclass(frozen=True)
class Refused:
    """A fold is refused.

    Attributes:
        reason: why that is right, or why it cannot be helped today.
        needed: whether rows do depend on each other.
    """

    reason: str
    needed: bool


PROVEN = "proven"


def needless(reason: str) -> Refused:
    """Expect a refusal of a step whose rows are independent."""
    return Refused(reason, needed=False)


def rightly(reason: str) -> Refused:
    """Expect a refusal of a step whose rows depend on each other."""
    return Refused(reason, needed=True)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Arrays that lead with batch and time."""

    value: Any


@dataclasses.dataclass(frozen=True)
class Steps:
    """Arrays that lead with time: a key or a number a step."""

    value: Any


@dataclasses.dataclass(frozen=True)
class Shared:
    """Arrays that all steps share."""

    value: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A step on arguments.

    Attributes:
        fun: the step.
        args: its arguments, for all steps.
        in_axes: where time is in each of them.
        expected: `PROVEN`, or a refusal.
    """

    name: str
    fun: Callable[..., Any]
    args: tuple
    in_axes: tuple
    expected: Any


PROGRAMS: dict[str, Program] = {}


def program(*args: Any, expected: Any = PROVEN) -> Callable[[Callable], Callable]:
    """Register a step under its name."""

    def register(fun: Callable) -> Callable:
        axes = tuple({Rows: 1, Steps: 0, Shared: None}[type(arg)] for arg in args)
        values = tuple(jax.device_put(arg.value) for arg in args)
        assert fun.__name__ not in PROGRAMS, fun.__name__
        PROGRAMS[fun.__name__] = Program(fun.__name__, fun, values, axes, expected)
        return fun

    return register


def array(*shape: int, seed: int = 0) -> Any:
    # By NumPy, here and below: JAX would compile programs for each shape.
    rng = np.random.default_rng([seed, *shape])
    return rng.normal(size=shape).astype(np.float32)


def rows(*features: int, seed: int = 0) -> Rows:
    """Return random rows of a shape."""
    return Rows(array(BATCH, TIME, *features, seed=seed))


def positive(*features: int, seed: int = 0) -> Rows:
    """Return random rows of positive numbers."""
    return Rows(np.float32(0.5) + np.abs(array(BATCH, TIME, *features, seed=seed)))


def ids(*features: int, below: int, seed: int = 0, first: int = 0) -> Rows:
    """Return random rows of whole numbers from `first` on, and below a limit."""
    rng = np.random.default_rng([seed, below, *features])
    return Rows(rng.integers(first, below, (BATCH, TIME, *features)).astype(np.int32))


def lengths(longest: int, seed: int = 0) -> Rows:
    """Return a random length for every row, at least 1."""
    return ids(below=longest + 1, first=1, seed=seed)


def weights(*shape: int, seed: int = 1) -> Shared:
    """Return a random array that all steps share."""
    return Shared(array(*shape, seed=seed) / np.float32(np.sqrt(shape[0])))


def keys(seed: int = 0) -> Steps:
    """Return a key for every step."""
    return Steps(jax.random.split(jax.random.key(seed), TIME))


def numbers(*features: int, seed: int = 5) -> Steps:
    """Return random numbers for every step."""
    return Steps(array(TIME, *features, seed=seed))
