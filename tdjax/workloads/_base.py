"""What a workload is: a named step function with arguments to run it on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Case", "Workload"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One step function and the arguments that `time_distributed` runs it on.

    Args:
      fun: `fun(params, x)` computes one step; it sees `x` without its time axis.
      args: `(params, x)`, with `x` of shape `(batch, time, *features)`.
      in_axes: Where each argument has its time axis, as in `jax.vmap`; None shares it.
      out_axes: Where the outputs get their time axis.
      time_size: The number of steps.
    """

    fun: Callable[..., Any]
    args: tuple[Any, ...]
    in_axes: Any
    time_size: int
    out_axes: Any = 1


@dataclasses.dataclass(frozen=True)
class Workload:
    """A named program for `tdjax compare`.

    Args:
      name: What the command line calls it.
      title: A heading for tables and plots.
      description: One sentence with the sizes.
      build: `build(quick)` makes the arrays; `quick=True` makes them as small as they can be.
      picture: `picture(path, quick)` draws what the workload works on; None where that is noise.
    """

    name: str
    title: str
    description: str
    build: Callable[[bool], Case]
    picture: Callable[[Path, bool], None] | None = None
