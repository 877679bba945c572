"""How the suite compiles: quickly, since most programs run once; or as users do."""

from __future__ import annotations

import os
from typing import Any

import jax

# XLA had two ways of generating code for CPUs, of which the older takes a quarter of the time.
HAS_OLDER_EMITTERS = jax.__version_info__ < (0, 11)
# XLA splits a program to compile its parts on many cores, which costs more than small programs do.
IN_ONE_PART = "--xla_cpu_parallel_codegen_split_count=1"
# Options for a program that is looked at.
AS_USERS_DO: dict[str, Any] = {"xla_cpu_use_fusion_emitters": True} if HAS_OLDER_EMITTERS else {}


def compile_quickly() -> None:
    """Spend no time on making programs fast, neither here nor in what tests start."""
    optimise(False)
    flags = [os.environ.get("XLA_FLAGS", ""), IN_ONE_PART]
    if HAS_OLDER_EMITTERS:
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join(flags).strip()


def optimise(yes: bool) -> None:
    """Say whether programs are optimised from now on, here and in what tests start."""
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(not yes))
    jax.config.update("jax_disable_most_optimizations", not yes)
