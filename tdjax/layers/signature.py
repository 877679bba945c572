"""How the call of a layer looks to its caller: the parameters of one step."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def without_self(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return something with the signature of a method as its caller sees it; it is never called."""

    def signature_only(*args: Any, **kwargs: Any) -> None:
        """Never called."""

    signature_only.__module__ = getattr(function, "__module__", None) or ""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return signature_only
    _, *parameters = signature.parameters.values()
    shown = signature.replace(parameters=parameters)
    signature_only.__signature__ = shown  # type: ignore[attr-defined]
    return signature_only


def parameter_names(function: Any) -> tuple[str, ...]:
    """Return the names of the parameters of a step, without `self`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in parameters if p.kind in kinds)


def takes_mask(function: Any, mask: Any) -> bool:
    """Say whether a layer is given its step's part of the mask.

    It is if its call has a parameter called `mask`. That of Flax's own layers means something else
    than real rows (which keys attention sees, which elements normalisation counts), and that of a
    wrapper inside this one its own time, so that they are given a mask only if it has more axes
    than batch and time.
    """
    if mask is None or (mask.ndim == 2 and function.__module__.startswith(("flax.", "tdjax."))):
        return False
    try:
        return "mask" in inspect.signature(function).parameters
    except (ValueError, TypeError):
        return False
