"""The strategies that there are, and the names that stand for them.

To add a strategy, write it in a file of its own, and add a line `register(...)` here. From outside
of the package, `tdjax.strategies.register` is called in the same way.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from tdjax.strategies.auto import Auto
from tdjax.strategies.base import KINDS, SHORTHANDS, Strategy
from tdjax.strategies.fold import Fold
from tdjax.strategies.packed import Packed
from tdjax.strategies.spelling import NAMES
from tdjax.strategies.vmap import Vmap

StrategyName: TypeAlias = Literal["vmap", "map", "unroll", "fold", "packed", "auto"]
"""The shorthands, for type checkers."""

StrategyLike: TypeAlias = StrategyName | Strategy
"""What type checkers take for a strategy: a misspelled text is no shorthand. `parse` gives the
object of any text that is read."""


def register(kind: type[Strategy], **shorthands: Strategy) -> None:
    """Make a kind of strategy known: to names, texts, tuned results, tables, `auto` and `tune`.

    Args:
        kind: a class of strategies, a frozen dataclass.
        **shorthands: names for some of its objects, as `vmap=Vmap()`.

    Raises:
        ValueError: a name is taken.
    """
    taken = [name for name in (kind.__name__, *shorthands) if name in KINDS or name in NAMES]
    if taken:
        raise ValueError(f"there is a strategy {taken[0]!r} already; take another name.")
    KINDS[kind.__name__] = kind
    NAMES.update(shorthands)
    SHORTHANDS.update({strategy: name for name, strategy in shorthands.items()})


def unregister(kind: type[Strategy]) -> None:
    """Undo `register`."""
    del KINDS[kind.__name__]
    for name, strategy in list(NAMES.items()):
        if type(strategy) is kind:
            del NAMES[name], SHORTHANDS[strategy]


register(Vmap, vmap=Vmap(), map=Vmap(chunk_size=1), unroll=Vmap(chunk_size=1, unroll=True))
register(Fold, fold=Fold())
register(Packed, packed=Packed())
register(Auto, auto=Auto())
