"""Lists of strategies, as Python and as a command line writes them: `vmap, Fold(512, unroll)`."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from tdjax.strategies import Auto, Fold, Packed, Vmap, parse


def read_strategies(text: str) -> list[Any]:
    """Return the strategies of a list such as "vmap, fold, Fold(512, unroll)", each once.

    A name with arguments reads as in Python, and as tables show it: a word alone is True.

    Raises:
        ValueError: the text is no such list, or has a strategy or an argument that is not known.
    """
    try:
        tree = ast.parse(f"[{text}]", mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"strategies: {text!r} is not a list of names: {error.msg}") from None
    assert isinstance(tree, ast.List)
    try:
        return parse_strategies([_strategy(node) for node in tree.elts])
    except TypeError as error:
        raise ValueError(f"strategies: {error}") from None


def parse_strategies(strategies: Sequence[Any] | str) -> list[Any]:
    """Return the strategy objects, each once.

    Raises:
        ValueError: a name is unknown, or there is none.
    """
    given = [strategies] if isinstance(strategies, str) else list(strategies)
    if not given:
        raise ValueError("strategies: got none, needed at least one, such as 'vmap'.")
    return list(dict.fromkeys(parse(strategy) for strategy in given))


def _strategy(node: ast.expr) -> Any:
    if not isinstance(node, ast.Call):
        return ast.unparse(node)
    classes = Vmap, Fold, Packed, Auto
    kinds: dict[str, Any] = {kind.__name__: kind for kind in classes}
    name = ast.unparse(node.func).removeprefix("tdjax.")
    if name not in kinds:
        raise ValueError(f"strategies: {name!r} takes no arguments; {', '.join(kinds)} do")
    flags = [argument.id for argument in node.args if isinstance(argument, ast.Name)]
    values = [argument for argument in node.args if not isinstance(argument, ast.Name)]
    named = {keyword.arg or "**": keyword.value for keyword in node.keywords}
    try:
        return kinds[name](
            *map(ast.literal_eval, values),
            **dict.fromkeys(flags, True),
            **{key: ast.literal_eval(value) for key, value in named.items()},
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"strategies: {ast.unparse(node)}: {error}") from None
