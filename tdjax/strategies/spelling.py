"""Which strategy a name or a text stands for."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

from tdjax.strategies.base import KINDS, Strategy

NAMES: dict[str, Strategy] = {}
"""Every shorthand with the strategy it stands for; `names.register` fills it."""


def parse(strategy: Any) -> Strategy:
    """Return the strategy that a name, a text or an object stands for.

    Args:
        strategy: one of `NAMES`; a strategy object such as `tdjax.Fold(chunk_size=64)`; or its
            text, in Python or as tables show it: "Fold(64, unroll)", where a word alone is True.

    Raises:
        ValueError: the name, or an argument, is not known.
        TypeError: it is neither a text nor a strategy object.

    >>> parse("map")
    Vmap(chunk_size=1, unroll=False, remat=False)
    >>> parse("Vmap(4, unroll)") == parse("tdjax.Vmap(chunk_size=4, unroll=True)")
    True
    """
    if isinstance(strategy, Strategy):
        return strategy
    if isinstance(strategy, str):
        text = strategy.strip().removeprefix("auto: ")  # as tables show what auto took
        return NAMES[text] if text in NAMES else _parse_text(text)
    is_class = isinstance(strategy, type) and issubclass(strategy, Strategy)
    hint = f" Write tdjax.{strategy.__name__}()." if is_class else ""
    raise TypeError(
        f"strategy is {strategy!r} ({type(strategy).__name__}); it must be one of {_known()}, or a "
        f"strategy object such as tdjax.Vmap(chunk_size=4).{hint}"
    )


def _parse_text(text: str) -> Strategy:
    """Return the strategy that a text such as "Fold(64, unroll)" describes."""
    try:
        node = ast.parse(_spelled_out(text), mode="eval").body
    except (SyntaxError, ValueError):  # ValueError: there is a null character in it
        node = None
    if not isinstance(node, ast.Call):
        raise ValueError(
            f"strategy is {text!r}, which is not known; use one of {_known()}, or an object such "
            f"as tdjax.Vmap(chunk_size=4) or tdjax.Fold(chunk_size=64)."
        )
    name = ast.unparse(node.func).removeprefix("tdjax.")
    if name not in KINDS:
        raise ValueError(
            f"strategy is {text}, and {name!r} takes no arguments; {', '.join(KINDS)} do."
        )
    try:
        named = {keyword.arg or "**": _literal(keyword.value) for keyword in node.keywords}
        args = [_literal(arg) for arg in node.args]
        _check_options(KINDS[name], args, named)
        return KINDS[name](*args, **named)
    except (TypeError, ValueError) as error:
        raise ValueError(f"strategy is {text}: {error}") from None


def _check_options(kind: type[Strategy], args: list[Any], named: dict[str, Any]) -> None:
    """Raise TypeError, with the options that there are, unless a strategy takes these."""
    signature = inspect.signature(kind)
    try:
        signature.bind(*args, **named)
    except TypeError as error:
        options = ", ".join(signature.parameters)
        raise TypeError(f"{error}; the options of {kind.__name__} are {options}") from None


def _spelled_out(text: str) -> str:
    """Return a text with `=True` after each word alone: `Vmap(4, unroll=2, remat)` is no Python."""

    def arguments(found: re.Match[str]) -> str:
        return re.sub(r"(?<=[(,])\s*([a-z_]\w*)\s*(?=[,)])", r"\1=True", found[0])

    return re.sub(r"\([^()]*\)", arguments, text)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{ast.unparse(node)} is not a number, a string, a bool or None") from None


def _known() -> str:
    return ", ".join(f'"{name}"' for name in NAMES)
