"""The builders of lines, by primitive, and how a program grows from them.

What there is to build is read from the table of primitives that the proof reads: a line is drawn by
family of rules first, then by primitive, so that each is reached, however many others there are.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import jax

import tdjax.independence  # noqa: F401  (fills the table)
from tdjax.independence.rules.rule import known_primitives, traits_of

from ..scope import Scope, Type, Unfit, Value

Builder = Callable[[Scope], str]
BUILDERS: dict[str, list[Builder]] = {}

_NARROW = "computes in narrow dtypes, whose rounding a comparison in float64 would call wrong"
# Primitives that no program of this kind can have, and why.
UNREACHED = {
    "all_gather": "talks over a named axis, which `jax.vmap` takes away",
    "pmax": "talks over a named axis, which `jax.vmap` takes away",
    "pmin": "talks over a named axis, which `jax.vmap` takes away",
    "psum": "talks over a named axis, which `jax.vmap` takes away",
    "psum_invariant": "stands inside shard_map",
    "pvary": "stands inside shard_map",
    "reshard": "needs a mesh of explicit axes",
    "mesh_cast": "needs a mesh of explicit axes",
    "tdjax_on_device": "needs several devices",
    "tdjax_cut": "is added by calls of tdjax inside a step alone, which have a builder",
    "tdjax_product": _NARROW,
    "tdjax_pushed": _NARROW,
    "tdjax_view": _NARROW,
}


def builds(*primitives: str, weight: int = 1) -> Callable[[Builder], Builder]:
    """Register a builder of lines that call a primitive.

    Args:
        primitives: their names. A name that is not in the table is a family of its own.
        weight: how much more often than others it is drawn.
    """

    def register(builder: Builder) -> Builder:
        for primitive in primitives:
            BUILDERS.setdefault(primitive, []).extend([builder] * weight)
        return builder

    return register


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name


@functools.cache
def families() -> dict[str, tuple[str, ...]]:
    """Return the primitives that can be built, by the family of their rule."""
    found: dict[str, list[str]] = {}
    for name in known_primitives():
        if name in BUILDERS:
            found.setdefault(_family(name), []).append(name)
    for name in BUILDERS:
        if name not in known_primitives():
            found.setdefault(name, []).append(name)
    return {family: tuple(names) for family, names in found.items()}


def _family(name: str) -> str:
    traits = traits_of(_Named(name))
    rule: Any = traits.nested or traits.rows
    if name.startswith("custom_") and name != "custom_linear_solve":
        return "derivatives"
    if traits.draws:
        return "random"
    return rule.__module__.rpartition(".")[2] if rule else "without a rule"


def draw(scope: Scope, weights: dict[str, float]) -> Value:
    """Write one random line.

    Raises:
        Unfit: it did not work out.
    """
    (family,) = scope.rng.choices(list(weights), list(weights.values()))
    names = families()[family]
    (primitive,) = scope.rng.choices(names, [len(BUILDERS[name]) for name in names])
    return write(scope, primitive)


def write(scope: Scope, primitive: str) -> Value:
    """Write a line that calls a primitive.

    Raises:
        Unfit: it did not work out.
    """
    builder = scope.rng.choice(BUILDERS[primitive])
    with scope.undone():
        return scope.line(builder(scope), primitive)


def grow(scope: Scope, count: int) -> list[Value]:
    """Write so many lines, and return their variables."""
    made: list[Value] = []
    for _ in range(8 * count):
        if len(made) == count:
            break
        try:
            made.append(draw(scope, scope.setting.weights))
        except Unfit:
            continue
    return made


def changed(scope: Scope, value: Value, count: int = 1) -> Value:
    """Write lines that make another value of the same type out of this one."""
    scope.values.append(value)  # what comes last is read first
    made = grow(scope, count)
    if not made:
        return value
    return scope.line(fitted(scope, made[-1], value))


def fitted(scope: Scope, value: Value, like: Value) -> str:
    """Return code for a value of one variable's type that depends on another."""
    target, given = like.type, value.type
    if value.name == like.name or target.kind == "key":
        return str(like)
    if given == target:
        return (
            scope.rng.choice([f"{value}", f"{like} * 0.5 + {value}"])
            if _number(target)
            else str(value)
        )
    if given.kind == "key" or target.kind == "bool":
        return str(like)
    part = str(value)
    if given.kind in ("bool",) or (given.kind == "int" and target.kind != "int"):
        part = f"{part}.astype(float)"
    if given.kind == "complex" and target.kind != "complex":
        part = f"{part}.real"
    if (given.small, given.large) != (target.small, target.large):
        part = _reduced(value, like, part)
    if target.kind == "int":
        return f"{like} + ({part} > 0).astype({like}.dtype)"
    return f"{like} * 0.5 + ({part}).astype({like}.dtype)"


def _number(given: Type) -> bool:
    return given.kind in ("float", "complex")


def _reduced(value: Value, like: Value, part: str) -> str:
    """Return code for one number a row, or one for all, that goes with another variable."""
    if value.rows is None:
        return f"{part}.mean()"
    if like.rows is None or value.shape[value.rows] != like.shape[like.rows]:
        raise Unfit
    axes = [axis for axis in range(value.rank) if axis != value.rows]
    after = like.rank - like.rows - 1
    mean = f"{part}.mean({tuple(axes)})" if axes else part
    return f"{mean}[{', '.join([':'] + ['None'] * after)}]" if after else mean


def weights(rng: random.Random) -> dict[str, float]:
    """Return odds for every family: some are in focus, so that rare pairs meet."""
    base = {family: _ODDS.get(family, 1.0) for family in families()}
    chosen = rng.sample(sorted(base), rng.choice([0, 1, 2, 2, 3]))
    return {family: odds * (8 if family in chosen else 1) for family, odds in base.items()}


_ODDS = {"derivatives": 3.0, "without a rule": 0.15, "layers": 0.7, "random": 1.2}


def installed_primitives() -> dict[str, Any]:
    """Return the primitives of the installed JAX that can be named from outside, by name."""
    import jax.extend.core.primitives as public
    from jax.extend.core import Primitive

    found = {}
    for module in (public, jax.lax):
        for name in dir(module):
            value = getattr(module, name)
            if isinstance(value, Primitive):
                found[value.name] = value
    return found
