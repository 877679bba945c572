"""How often operations stand in a program, fused ones included, a loop's body once."""

from __future__ import annotations

from collections import Counter

from tdjax.comparison.hlo.module import Module
from tdjax.comparison.hlo.opcodes import COLLECTIVES

COUNTED = ("transpose", "copy", "gather", "while")


def operations(module: Module) -> Counter[str]:
    """Return the counts of every operation."""
    return Counter(
        instruction.opcode
        for computation in module.computations.values()
        for instruction in computation.instructions.values()
    )


def counts(module: Module) -> dict[str, int]:
    """Return the counts that an entry carries: the operations that only move data."""
    found = operations(module)
    moved = {name: found[name] for name in COUNTED}
    collectives = sum(found[name] + found[f"{name}-start"] for name in COLLECTIVES)
    return {**moved, "collectives": collectives}


def loops(module: Module) -> bool:
    """Whether the program holds a loop or a branch."""
    found = operations(module)
    return bool(found["while"] or found["conditional"])
