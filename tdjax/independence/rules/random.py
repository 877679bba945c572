"""Rules for keys and noise.

What a key gives depends on how much is drawn from it at once: element i of a draw of n is not
element i of a draw of m. So noise keeps rows apart only where every row has a key of its own, and
where the generator gives each key of a batch what it gives alone, as Threefry does and XLA's own
generators do not.
"""

from __future__ import annotations

from typing import Any

import jax

from tdjax.core.jaxpr import equations_inside
from tdjax.independence.kinds import CONST, Kind, NotProvenError
from tdjax.independence.rules.rule import every_output, same_rows, shape_of, traits_of

# Which generators make new keys of each key of a batch as they make them of it alone.
_MAKE_KEYS = {"random_split": ("fry", "rbg"), "random_fold_in": ("fry", "rbg")}


def each_key_alone(eqn: Any) -> bool:
    """Say whether an operation on a batch of keys gives each of them what it gives it alone.

    An operation that holds programs does if everything in them does.
    """
    return all(map(_draws_alone, (eqn, *equations_inside(eqn))))


def _draws_alone(eqn: Any) -> bool:
    name = eqn.primitive.name
    if name == "rng_bit_generator":
        return False
    if name not in _MAKE_KEYS and not traits_of(eqn.primitive).draws:
        return True
    alone = _MAKE_KEYS.get(name, ("fry",))
    return all(
        _generator(atom) in alone
        for atom in eqn.invars
        if jax.dtypes.issubdtype(atom.aval.dtype, jax.dtypes.prng_key)
    )


def _generator(keys: Any) -> str:
    """Return the short name of the generator that keys are for, from their type: "key<fry>".

    Keys that hold others, as those of tdjax's own noise do, name theirs last: "key<rows fry>".
    """
    return str(keys.aval.dtype).partition("<")[2].rstrip(">").split(" ")[-1]


def _check_generator(eqn: Any) -> None:
    if not each_key_alone(eqn):
        raise NotProvenError(
            f"draws from {eqn.invars[0].aval.dtype} keys of the rows, whose noise depends on how "
            f"many keys are drawn from at once (threefry2x32, the default, gives each its own)"
        )


def every_key(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """What is made of every key lies where the key lies."""
    return every_output(eqn, same_rows(kinds))


def bits(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Every key gives its own bits, on axes that follow the keys' axes."""
    _check_generator(eqn)
    return every_output(eqn, same_rows(kinds))


def fold_in(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """Every number gives a key of its own, of a key that all share or of a row's."""
    _check_generator(eqn)
    rows = every_key(eqn, kinds)
    if any(kind is not CONST and kind != rows[0] for kind in kinds):
        raise NotProvenError("mixes numbers of many steps into the key of one step")
    return rows


def samples(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """A key is split into one for each value beside it: rows need keys of their own."""
    _check_generator(eqn)
    rows = same_rows(kinds)
    if kinds[0] != rows:
        raise NotProvenError(
            "draws noise for all rows from one key that they share, and how much is drawn changes "
            "what is drawn (`jax.vmap` inside the step, with one key a row, keeps them apart)"
        )
    return [rows]


def wrap(eqn: Any, kinds: list[Kind]) -> list[Kind]:
    """The last axes of the words make a key; the rows must lie before them."""
    rows = same_rows(kinds)
    if rows.axis >= len(shape_of(eqn.outvars[0])):
        raise NotProvenError("takes the rows for the words of a key")
    return [rows]
