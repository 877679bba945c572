"""The shorthand names of strategies."""

from __future__ import annotations

from typing import Any

from tdjax.strategies.auto import Auto
from tdjax.strategies.base import SHORTHANDS, Strategy
from tdjax.strategies.fold import Fold
from tdjax.strategies.packed import Packed
from tdjax.strategies.vmap import Vmap

NAMES: dict[str, Strategy] = {
    "vmap": Vmap(),
    "map": Vmap(chunk_size=1),
    "unroll": Vmap(chunk_size=1, unroll=True),
    "fold": Fold(),
    "packed": Packed(),
    "auto": Auto(),
}
"""Every shorthand with the strategy it stands for."""

SHORTHANDS.update({strategy: name for name, strategy in NAMES.items()})


def parse(strategy: Any) -> Strategy:
    """Return the strategy that a name or an object stands for.

    Args:
        strategy: one of `NAMES`, or a strategy object such as `tdjax.Fold(chunk_size=64)`.

    Raises:
        ValueError: the name is not known.
        TypeError: it is neither a name nor a strategy object.

    >>> parse("map")
    Vmap(chunk_size=1, unroll=False, remat=False)
    """
    if isinstance(strategy, Strategy):
        return strategy
    known = ", ".join(f'"{name}"' for name in NAMES)
    if isinstance(strategy, str):
        if strategy in NAMES:
            return NAMES[strategy]
        raise ValueError(
            f"strategy is {strategy!r}, which is not known; use one of {known}, or an object such "
            f"as tdjax.Vmap(chunk_size=4) or tdjax.Fold(chunk_size=64)."
        )
    hint = f" Write tdjax.{strategy.__name__}()." if _is_strategy_class(strategy) else ""
    raise TypeError(
        f"strategy is {strategy!r} ({type(strategy).__name__}); it must be one of {known}, or a "
        f"strategy object such as tdjax.Vmap(chunk_size=4).{hint}"
    )


def _is_strategy_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Strategy)
