"""`jax.checkpoint`, in a form that can be checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def recomputing(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return a function that the backward pass computes again instead of keeping what it computed.

    Args:
        function: called inside of `jax.jit`: `checkify` fails where it adds constants to what
            `jax.checkpoint` runs, and there they belong to what that calls.
        options: those of `jax.checkpoint`.
    """
    return jax.checkpoint(jax.jit(function), **options)
