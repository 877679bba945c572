"""Lists of strategies, as Python and as a command line writes them: `vmap, Fold(512, unroll)`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tdjax.strategies import parse

_BETWEEN = re.compile(r",(?![^()]*\))")  # a comma, but not one between arguments


def parse_strategies(strategies: Sequence[Any] | str) -> list[Any]:
    """Return the strategies of a list, or of a text such as "vmap, Fold(512, unroll)", each once.

    Raises:
        ValueError: there is none, or a strategy or an argument of one is not known.
        TypeError: one is neither a text nor a strategy object.
    """
    if isinstance(strategies, str):
        strategies = [item.strip() for item in _BETWEEN.split(strategies.strip().removesuffix(","))]
    if not strategies or list(strategies) == [""]:
        raise ValueError("strategies: got none, needed at least one, such as 'vmap'.")
    return list(dict.fromkeys(parse(strategy) for strategy in strategies))
