"""How the suite compiles: quickly, since most programs run once; or as users do."""

from __future__ import annotations

import os
from typing import Any

import jax

# XLA had two ways of generating code for CPUs, of which the older takes a quarter of the time.
HAS_OLDER_EMITTERS = jax.__version_info__ < (0, 11)
# Options for a program that is looked at.
AS_USERS_DO: dict[str, Any] = {"xla_cpu_use_fusion_emitters": True} if HAS_OLDER_EMITTERS else {}


def compile_quickly() -> None:
    """Spend no time on making programs fast, neither here nor in what tests start."""
    optimise(False)
    if HAS_OLDER_EMITTERS:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_use_fusion_emitters=false".strip()


def optimise(yes: bool) -> None:
    """Say whether programs are optimised from now on, here and in what tests start."""
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(not yes))
    jax.config.update("jax_disable_most_optimizations", not yes)
