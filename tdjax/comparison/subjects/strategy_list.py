"""Lists of strategies, as Python and as a command line writes them: `vmap, Fold(512, unroll)`."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from tdjax.strategies import parse


def parse_strategies(strategies: Sequence[Any] | str) -> list[Any]:
    """Return the strategies of a list, or of a text such as "vmap, Fold(512, unroll)", each once.

    Raises:
        ValueError: there is none, the text is not a list, or a strategy or an argument of one is
            not known.
        TypeError: one is neither a text nor a strategy object.
    """
    given = _split(strategies) if isinstance(strategies, str) else list(strategies)
    if not given:
        raise ValueError("strategies: got none, needed at least one, such as 'vmap'.")
    return list(dict.fromkeys(parse(strategy) for strategy in given))


def _split(text: str) -> list[str]:
    """Return the items of a list; commas between the arguments of an item do not split it."""
    try:
        tree = ast.parse(f"[{text}]", mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"strategies: {text!r} is not a list of names: {error.msg}") from None
    if not isinstance(tree, ast.List):
        raise ValueError(f"strategies: {text!r} is not a list of names")
    return [ast.unparse(node) for node in tree.elts]
