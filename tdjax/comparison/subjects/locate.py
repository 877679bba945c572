"""What `package.module:name` and `package.module:name(arguments)` stand for on a command line.

The arguments are literals, and nothing else is evaluated: it is a name, not a program.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any

from tdjax.comparison.system.error_place import error_place
from tdjax.flax_guard import linen_module, nnx_module

_FORMS = (
    "write package.module:name, or package.module:name(64, features=(8, 16)) with literal arguments"
)


def locate(text: str) -> Any:
    """Return what a text names, looking in the working folder as well.

    A name alone is what the module has of that name; a Linen or NNX module class is called
    without arguments, an NNX one with `rngs=nnx.Rngs(0)` where it takes them. A name with
    arguments is what the class or function returns for them.

    Raises:
        ValueError: the module or the attribute does not exist, the text is not such a name, or
            the class or function refuses the arguments.
    """
    module_name, _, expression = text.partition(":")
    if not module_name or not expression:
        raise ValueError(f"{text!r} does not read as package.module:function")
    names, call = _parse(text, expression.strip())
    value = _attribute(module_name, names)
    is_nnx = _is_subclass(value, nnx_module())
    if call is None and not is_nnx and not _is_subclass(value, linen_module()):
        return value
    arguments, keywords = _arguments(text, call)
    if is_nnx and "rngs" in _parameters(value) and "rngs" not in keywords:
        from flax import nnx

        keywords["rngs"] = nnx.Rngs(0)
    if not callable(value):
        raise ValueError(f"{text}: {'.'.join(names)} is of {type(value).__name__}, not callable")
    try:
        return value(*arguments, **keywords)
    except Exception as error:
        hint = _hint(text, value) if call is None else ""
        kind = f"{type(error).__name__}{error_place(error)}"
        raise ValueError(f"{text}: {kind}: {error}{hint}") from error


def _parse(text: str, expression: str) -> tuple[list[str], ast.Call | None]:
    try:
        node = ast.parse(expression, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{text!r} is not Python: {error.msg}; {_FORMS}") from None
    call = node if isinstance(node, ast.Call) else None
    names: list[str] = []
    place = node if call is None else call.func
    while isinstance(place, ast.Attribute):
        names.insert(0, place.attr)
        place = place.value
    if not isinstance(place, ast.Name):
        raise ValueError(f"{text!r} is not a name; {_FORMS}")
    return [place.id, *names], call


def _attribute(module_name: str, names: list[str]) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if missing != module_name and not module_name.startswith(f"{missing}."):
            raise
        raise ValueError(
            f"no module named {missing!r}; looked in {os.getcwd()} and the installed packages"
        ) from None
    except (Exception, SystemExit) as error:  # sys.exit() in a script would end this process.
        kind = f"{type(error).__name__}{error_place(error)}"
        raise ValueError(f"{module_name} cannot be imported: {kind}: {error}") from error
    for name in names:
        if not hasattr(value, name):
            known = [other for other in dir(value) if not other.startswith("_")][:8]
            raise ValueError(
                f"{module_name!r} has no attribute {'.'.join(names)!r}; "
                f"it has {', '.join(known) or 'none'}"
            )
        value = getattr(value, name)
    return value


def _arguments(text: str, call: ast.Call | None) -> tuple[list[Any], dict[str, Any]]:
    if call is None:
        return [], {}
    arguments = [_literal(text, node) for node in call.args]
    keywords = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise ValueError(f"{text}: ** cannot be used here; name each argument")
        keywords[keyword.arg] = _literal(text, keyword.value)
    return arguments, keywords


def _literal(text: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise ValueError(
            f"{text}: {ast.unparse(node)!r} is not a literal; arguments are numbers, strings, "
            "True, None, and tuples, lists and dicts of them. For others write a function that "
            "makes it, and name that: package.module:make()"
        ) from None


def _hint(text: str, value: type) -> str:
    """Say how to give the arguments that a class cannot do without."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [
        f"{name}=..."
        for name, parameter in list(_parameters(value).items())[1:]
        if parameter.kind in kinds and parameter.default is parameter.empty and name != "rngs"
    ]
    if not needed:
        return ""
    return f'. Give its arguments, as literals and in quotes: "{text}({", ".join(needed)})"'


def _is_subclass(value: Any, module: Any) -> bool:
    return isinstance(value, type) and issubclass(value, module)


def _parameters(value: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a class, `self` first; those of its metaclass take anything."""
    return inspect.signature(value.__init__).parameters
