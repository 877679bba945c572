"""What a case of the table is, and how one is written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A step function on arguments with a few steps.

    Attributes:
        name: what the test's id says.
        build: takes `weights` and returns the step function, which closes over them.
        args: positional arguments, time at `in_axes`.
        weights: arrays that the step function closes over.
        folds: whether rows are independent, and proven to be.
    """

    name: str
    build: Callable[..., Callable[..., Any]]
    args: tuple
    weights: tuple = ()
    in_axes: Any = 1
    out_axes: Any = 1
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    folds: bool = True

    def options(self) -> dict[str, Any]:
        return {"in_axes": self.in_axes, "out_axes": self.out_axes}


def array(*shape: int, dtype: Any = jnp.float32, seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, *shape])
    # `jnp.asarray` would compile programs for each shape.
    return jax.device_put(rng.normal(size=shape).astype(dtype))


def integers(*shape: int, below: int, seed: int = 0) -> Any:
    return jax.device_put(np.random.default_rng([seed, *shape]).integers(0, below, shape, np.int32))


CASES: dict[str, Case] = {}


def case(*args: Any, weights: tuple = (), **options: Any) -> Callable[[Callable], Callable]:
    """Register a builder of a step function under its name."""

    def register(build: Callable) -> Callable:
        name = build.__name__
        CASES[name] = Case(name, build, args, weights, **options)
        return build

    return register


def steps(*args: Any, **options: Any) -> Callable[[Callable], Callable]:
    """Register a step function that closes over nothing."""

    def register(fun: Callable) -> Callable:
        CASES[fun.__name__] = Case(fun.__name__, lambda: fun, args, (), **options)
        return fun

    return register
