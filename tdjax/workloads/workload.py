"""What a workload is: a named step function with arguments to run it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One step function and the arguments that `time_distributed` runs it on.

    Attributes:
        fun: computes one step; it sees arguments without their time axes.
        args: `(params, x)` as a rule, with `x` of shape `(batch, time, *features)`.
        in_axes: where each argument has its time axis, as in `jax.vmap`; None shares it.
        time_size: the number of steps.
        out_axes: where the outputs get their time axis.
    """

    fun: Callable[..., Any]
    args: tuple[Any, ...]
    in_axes: Any
    time_size: int
    out_axes: Any = 1


@dataclass(frozen=True)
class Workload:
    """A named program for `tdjax compare`.

    Attributes:
        name: what the command line calls it.
        title: a heading for tables and plots.
        description: one sentence with the sizes.
        build: `build(quick)` makes the arrays; `quick=True` makes them as small as they can be.
        picture: `picture(axes, quick)` draws what the workload works on, and its answer, into axes
            of matplotlib, and returns what must be said of it; None where that is noise.
        unseen: whether it runs only beside rivals: speeds are never fitted to it, so that it shows
            how well `auto` chooses where it knows nothing.
        tabled: whether it is only there for tables of what `auto` could have chosen.
    """

    name: str
    title: str
    description: str
    build: Callable[[bool], Case]
    picture: Callable[[Any, bool], str] | None = None
    unseen: bool = False
    tabled: bool = False


def linen_case(name: str, module: Any, shape: tuple[int, ...]) -> Case:
    """Return a Linen module on random steps, with random parameters.

    Args:
        name: what the step function is called.
        module: takes one step; variables that are no parameters, such as statistics, are constants.
        shape: of all steps, `(batch, time, *features)`.
    """
    import jax

    x = jax.random.normal(jax.random.key(0), shape)
    variables = dict(jax.jit(module.init)(jax.random.key(1), x[:, 0]))
    params = variables.pop("params")

    def step(params: Any, x: jax.Array) -> Any:
        return module.apply({"params": params, **variables}, x)

    step.__name__ = step.__qualname__ = name
    return Case(step, (params, x), in_axes=(None, 1), time_size=shape[1])
