"""The strategies that there are, and the names and texts that stand for them.

To add a strategy, write it in a file of its own, and add a line `register(...)` here. From outside
of the package, `tdjax.strategies.register` is called in the same way.
"""

from __future__ import annotations

import ast
import re
from typing import Any, Literal, TypeAlias

from tdjax.strategies.auto import Auto
from tdjax.strategies.base import KINDS, SHORTHANDS, Strategy
from tdjax.strategies.fold import Fold
from tdjax.strategies.packed import Packed
from tdjax.strategies.vmap import Vmap

StrategyName: TypeAlias = Literal["vmap", "map", "unroll", "fold", "packed", "auto"]
"""The shorthands, for type checkers."""

StrategyLike: TypeAlias = StrategyName | Strategy
"""What type checkers take for a strategy: a misspelled text is no shorthand. `parse` gives the
object of any text that is read."""

NAMES: dict[str, Strategy] = {}
"""Every shorthand with the strategy it stands for."""


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
        return KINDS[name](*map(_literal, node.args), **named)
    except (TypeError, ValueError) as error:
        raise ValueError(f"strategy is {text}: {error}") from None


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
