"""Sends Flax modules to their wrappers, without importing Flax for those who do not use it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def wrap_module(fun: Any, options: dict[str, Any]) -> Any:
    """Return the Flax wrapper if `fun` is a Flax module, else None."""
    return None


def check_function(fun: Callable[..., Any]) -> None:
    """Raise TypeError if `fun` is bound to a Flax module or closes over a bound one."""
    del fun
    sys.modules.get("flax.linen")
