"""What XLA for CPUs gives to its library as one operation, which nothing inside it leaves.

XLA begins at reductions, from the last one, and takes in what reads it as long as there is one
reader, then, from there up, whatever is read inside alone (`library_rewriter.cc` and
`ynn_support.cc` of XLA; jax 0.10 to 0.12): chains of normalizations are read once and written once,
however long. The library has some elementwise operations of floats, and reductions to sums and
extremes. Where its arrays have fewer than 4096 numbers, none of this is done.

A constant that is read inside and outside is no part of it: XLA writes it to memory, repeated for
every number, and the library reads that.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tdjax.core.jaxpr import is_literal
from tdjax.costs.flat import Flat, Line
from tdjax.independence.rules.rule import Cost, traits_of

LEAST = 4096
"""Numbers that an operation reads or writes, at least, for the library to have it."""

_REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min")
# Others XLA makes of choices and polynomials, which the library has not. The tests ask XLA of each.
_ELEMENTWISE = frozenset({
    "abs", "add", "add_any", "ceil", "cosh", "div", "erf", "exp", "exp2", "expm1", "floor",
    "integer_pow", "log", "log1p", "logistic", "max", "min", "mul", "neg", "pad", "pow", "rsqrt",
    "sign", "sqrt", "square", "sub", "tanh",
    *(("cos", "sin", "tan") if jax.__version_info__ >= (0, 11) else ()),
})  # fmt: skip
_FLOATS = tuple(map(jnp.dtype, ("float64", "float32", "bfloat16")))
# Constants that XLA has for what is one operation here: 1 / (1 + exp(-x)).
_IMPLIED = {"logistic": ("1.0",)}


class Fusion(NamedTuple):
    """Lines of a program that are one operation.

    Attributes:
        last: the line whose outputs are the operation's.
        inside: the lines, that one included.
        constants: literals that it reads from memory, repeated: the literal's text, the type and
            shape that it has there.
        least: the numbers of the smallest array that a line of it goes through.
    """

    last: int
    inside: frozenset[int]
    constants: tuple[tuple[str, Any], ...]
    least: int


def fusions(program: Flat, rowed: Sequence[bool]) -> list[Fusion]:
    """Return what the library computes in one operation, of lines whose results have rows or not.

    Operations of one line are left out.
    """
    constant = _constant(program)
    able = [
        has and _is_able(line, constant) for line, has in zip(program.lines, rowed, strict=True)
    ]
    parts = _parts(program, able)
    shared = _shared_constants(program, rowed, [inside for _, inside in parts])
    return [
        Fusion(last, frozenset(inside), constants, _least(program, inside))
        for (last, inside), constants in zip(parts, shared, strict=True)
        if len(inside) > 1
    ]


def _parts(program: Flat, able: Sequence[bool]) -> list[tuple[int, set[int]]]:
    """Return what the library takes: the last line of each part, and all of them."""
    readers, outside = _readers(program), len(program.lines)
    taken: set[int] = set()
    found = []
    for start in reversed(range(outside)):
        if start in taken or not able[start] or not _reduces(program.lines[start]):
            continue
        last, inside = start, {start}
        while len(readers[last]) == 1:
            (after,) = readers[last]
            if after == outside or not able[after] or after in taken:
                break
            last = after
            inside.add(last)
        for number in reversed(range(last)):
            within = readers[number] and readers[number] <= inside
            if within and able[number] and number not in taken:
                inside.add(number)
        taken |= inside
        found.append((last, inside))
    return found


def _readers(program: Flat) -> list[set[int]]:
    """Return the lines that read what each line gives; the number of lines stands for a result."""
    of_value: dict[Any, set[int]] = defaultdict(set)
    for number, line in enumerate(program.lines):
        for read in line.reads:
            if not is_literal(read):
                of_value[read].add(number)
    for output in program.outputs:
        if not is_literal(output):
            of_value[output].add(len(program.lines))
    return [set().union(*(of_value[write] for write in line.writes)) for line in program.lines]


def _reduces(line: Line) -> bool:
    return line.eqn.primitive.name in _REDUCTIONS


def _is_able(line: Line, constant: set[int]) -> bool:
    """Say whether the library has an operation, given the numbers of constants."""
    name, given, reads = line.eqn.primitive.name, line.eqn.invars, line.reads
    free = traits_of(line.eqn.primitive).cost is Cost.FREE
    if name == "select_n" and (is_literal(reads[0]) or reads[0] in constant):
        given = given[1:]  # XLA makes this choice itself
    elif not (free or _reduces(line) or name in _ELEMENTWISE):
        return False
    avals = [atom.aval for atom in (*given, *line.eqn.outvars)]
    return len(line.writes) == 1 and all(map(_is_of_floats, avals))


def _constant(program: Flat) -> set[int]:
    """Return the numbers of what is computed from literals alone."""
    found: set[int] = set()
    for line in program.lines:
        if all(is_literal(read) or read in found for read in line.reads):
            found.update(line.writes)
    return found


def _is_of_floats(aval: Any) -> bool:
    return getattr(aval, "dtype", None) in _FLOATS


def _least(program: Flat, inside: set[int]) -> int:
    """Return the numbers of the smallest array that an operation goes through."""
    sizes = [
        max(math.prod(atom.aval.shape) for atom in (*line.eqn.invars, *line.eqn.outvars))
        for line in (program.lines[number] for number in inside)
        if traits_of(line.eqn.primitive).cost is not Cost.FREE
    ]
    return max(1, min(sizes))


def _constants_of(line: Line) -> list[str]:
    """Return the constants that XLA repeats for every number of what an operation gives."""
    written = [str(read.val) for read in line.reads if is_literal(read)]
    implied = _IMPLIED.get(line.eqn.primitive.name, ())
    return [*written, *implied] if line.writes else []


def _shared_constants(
    program: Flat, rowed: Sequence[bool], parts: Sequence[set[int]]
) -> list[tuple[tuple[str, Any], ...]]:
    """Return the constants of each part that something outside of it reads as well, in order."""
    part_of = {number: part for part, inside in enumerate(parts) for number in inside}
    places: dict[tuple[str, Any], set[int | None]] = defaultdict(set)
    for number, line in enumerate(program.lines):
        if rowed[number]:
            for text in _constants_of(line):
                places[text, line.eqn.outvars[0].aval].add(part_of.get(number))
    shared = {key: where for key, where in places.items() if len(where) > 1}
    return [
        tuple(key for key, where in shared.items() if part in where) for part in range(len(parts))
    ]
