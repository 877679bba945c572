"""Draws programs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import jax

from .operations import (  # noqa: F401  (they register the builders)
    contractions,
    control,
    derivatives,
    elementwise,
    indexing,
    layers,
    noise,
    opaque,
    reductions,
    shapes,
)
from .operations.registry import BUILDERS, grow, weights, write
from .program import Program
from .scope import Scope, Setting, Unfit, quiet


def generate(seed: Any) -> Program:
    """Return the program of a seed; the same for the same seed and JAX."""
    rng = random.Random(str(seed))

    def lines(scope: Scope) -> None:
        setting, theme = scope.setting, rng.choice([None, None, *_THEMES])
        if theme is not None:
            theme(scope)
        setting.follow = rng.choice([0.0, 0.0, 0.0, 0.05, 0.2])
        setting.mixing = rng.choice([0.0, 0.0, 0.0, 0.03, 0.1])
        setting.wrong = rng.choice([0.0, 0.4])
        grow(scope, rng.choice([1, 2, 2, 3, 3, 4, 5, 7] if theme is None else [0, 1, 2]))

    return _until_fit(rng, seed, lines)


def _follow_the_batch(scope: Scope) -> None:
    """Write a line in which a number follows the batch; all primitives have the same odds."""
    setting = scope.setting
    setting.follow = 0.7
    for _ in range(40):
        followed = setting.followed
        try:
            with scope.undone():
                write(scope, scope.rng.choice(list(BUILDERS)))
                if setting.followed == followed:
                    raise Unfit
            return
        except Unfit:
            continue


_HOLDING = (
    "jit", "checkpoint", "closed_call", "custom_jvp_call", "custom_vjp_call", "custom_linear_solve",
    "triangular_solve", "cond", "scan", "while",
)  # fmt: skip
"""Primitives that hold programs, or stand for some that do."""


def _convolve_beside_programs(scope: Scope) -> None:
    """Write a convolution, which blocks run in a form of their own, and what holds a program."""
    for primitive in ("conv_general_dilated", scope.rng.choice(_HOLDING)):
        for _ in range(5):
            try:
                write(scope, primitive)
                break
            except Unfit:
                continue


def _derive_by_hand(scope: Scope) -> None:
    """Write a call of a function with a rule for reverse mode that is wrong rather often."""
    scope.setting.wrong = 0.8
    for _ in range(5):
        try:
            write(scope, "custom_vjp_call")
            return
        except Unfit:
            continue


_THEMES = (_follow_the_batch, _convolve_beside_programs, _derive_by_hand, _derive_by_hand)
"""What programs are about, that lines drawn one by one would seldom be."""


def example(primitive: str, seed: Any, follow: float = 0.0) -> Program:
    """Return a program of one line that a primitive's builder writes.

    Args:
        primitive: its name in the table.
        seed: another, another line.
        follow: the odds that a number follows the batch.
    """
    rng = random.Random(f"{primitive} {seed}")

    def lines(scope: Scope) -> None:
        scope.setting.follow, scope.setting.mixing = follow, 0.2
        write(scope, primitive)

    return _until_fit(rng, seed, lines)


def _until_fit(rng: random.Random, seed: Any, lines: Callable[[Scope], None]) -> Program:
    for _ in range(200):
        found: list[Program] = []
        try:
            with quiet():
                jax.eval_shape(lambda: found.append(_program(rng, seed, lines)))  # noqa: B023
        except Unfit:
            continue
        return found[0]
    raise Unfit(f"no program for seed {seed!r}")


def _program(rng: random.Random, seed: Any, lines: Callable[[Scope], None]) -> Program:
    batch, time = rng.choice([2, 2, 3, 3, 4]), rng.choice([2, 3, 3])
    setting = Setting(rng, batch, 2 * batch + 1, time, weights(rng))
    scope = Scope(setting)
    for _ in range(rng.choice([1, 1, 2])):
        scope.rows_value([scope.feature() for _ in range(rng.choice([1, 1, 2, 2]))])
    lines(scope)
    outputs = _outputs(scope)
    if not outputs:
        raise Unfit
    arrays, consts, nodes = map(tuple, (setting.arrays, setting.consts, scope.nodes))
    return Program(batch, time, arrays, consts, nodes, outputs, seed).live()


def _outputs(scope: Scope) -> tuple[str, ...]:
    """Return the variables that nothing reads, and now and then one that something does."""
    made = {node.target for node in scope.nodes}
    values = [value for value in scope.values if value.name in made and value.type.kind != "key"]
    read: set[str] = set().union(*(node.uses() for node in scope.nodes))
    last = [value.name for value in values if value.name not in read]
    more = [value.name for value in values if value.name in read and scope.chance(0.1)]
    return tuple(dict.fromkeys([*last[-3:], *more[-1:]]))
