"""`time_distributed`, the public function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

from tdjax.core.axes import Axes
from tdjax.flax_dispatch import lift_method, wrap_module
from tdjax.function import StepOverTime, TimeOptions
from tdjax.layers.options import Arguments
from tdjax.strategies import Strategy, parse


def time_distributed(
    fun: Callable[..., Any] | None = None,
    *,
    in_axes: Axes = 1,
    out_axes: Axes = 1,
    strategy: str | Strategy = "auto",
    axis_name: Any = None,
    pooled: bool = False,
    masked_output: Literal["zero", "keep"] = "zero",
    partition: Any = None,
    axis_size: int | None = None,
) -> Any:
    """Apply a step function to every step of `(batch, time, ...)` arrays.

    The meaning is a loop, whichever strategy computes it::

        outs = [fun(*[take(a, t) for a in args], **kwargs) for t in range(time)]
        return tree_map(lambda *y: stack(y, axis=1), *outs)

    `fun` sees one step, `(batch, *features)`. Use it as `@time_distributed`, as
    `@time_distributed(...)` or as `time_distributed(fun, ...)`, on functions and methods. A Flax
    module is wrapped by `tdjax.linen.TimeDistributed` or `tdjax.nnx.TimeDistributed`.

    Args:
        fun: the step function; it must be pure. A parameter called `mask` gets its step's mask.
        in_axes: where time is in each positional argument: an int, None (shared by all steps), or a
            pytree prefix of these; negative axes count from the end. Leaves that are not arrays are
            never mapped. Keyword arguments are passed to every step as they are.
        out_axes: where time goes in the outputs, in the same way; None for an output that is the
            same for every step.
        strategy: a name ("vmap", "map", "unroll", "fold", "packed", "auto"), an object
            (`tdjax.Vmap`, `tdjax.Fold`, `tdjax.Packed`, `tdjax.Auto`), or its text, such as
            "Fold(64, unroll)". It never changes the answer.
        axis_name: a name for the time axis, for `jax.lax.pmean` and the like inside `fun`.
        pooled: let `fun` see all steps as one batch of `batch * time` rows instead (Haiku's and
            Flax's `BatchApply`): its statistics are then taken over both.
        masked_output: the output of masked steps: "zero", or "keep" for what was computed there,
            which "packed" does not do.
        partition: on a mesh, the axes of it that the batch and the steps are spread over,
            `jax.sharding.PartitionSpec("data", "seq")`: every device runs the strategy on its own
            block, and nothing moves between them. On a mesh of explicit axes it is not needed: the
            types of the arguments tell. Mesh axes that are not named stay automatic.
        axis_size: the number of steps, needed when nothing is mapped.

    Returns:
        The wrapped function. It takes the arguments of `fun`, and `mask` (bool `(batch, time)`,
        True for real steps; with more axes, a step is real if any of its entries is) or
        `seq_lengths` (int `(batch,)`). Masked steps give 0, and no gradient, unless they are kept
        or `fun` mixes rows: such a function sees the padding, as it does in the loop.

    Raises:
        ValueError, TypeError: options that do not fit, here, or arguments, at the call.
        StrategyError: the strategy cannot keep the meaning for this function.

    >>> import jax.numpy as jnp
    >>> @time_distributed
    ... def normalize(frame):              # (batch, features)
    ...     return frame / jnp.linalg.norm(frame, axis=-1, keepdims=True)
    >>> normalize(jnp.ones((8, 10, 3))).shape
    (8, 10, 3)
    """
    options = TimeOptions(
        in_axes,
        out_axes,
        parse(strategy),
        axis_name,
        pooled,
        masked_output,
        partition,
        axis_size,
    )
    options.check()
    if fun is None:
        return functools.partial(time_distributed, **vars(options))
    if not callable(fun):
        raise TypeError(
            f"fun is {fun!r} ({type(fun).__name__}); it must be a function of one step."
        )
    module = wrap_module(fun, options)
    return TimeDistributed(fun, options) if module is None else module


class TimeDistributed(StepOverTime):
    """A step function applied over time; what `time_distributed` returns."""

    def __call__(self, *args: Any, mask: Any = None, seq_lengths: Any = None, **kwargs: Any) -> Any:
        """Run every step; see `time_distributed`."""
        given = Arguments(args, kwargs, mask, seq_lengths)
        lifted = lift_method(self.__wrapped__, self.options, given)
        if lifted is not None:
            return lifted()
        return super().__call__(*args, mask=mask, seq_lengths=seq_lengths, **kwargs)
