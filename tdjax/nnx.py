"""`TimeDistributed` for Flax NNX."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import jax
from flax import nnx

from tdjax.core.axes import Axes
from tdjax.core.mask import MaskLike
from tdjax.core.sites import site
from tdjax.flax_guard import StepLike, is_linen
from tdjax.function import place_of, run_over_time
from tdjax.layers.nnx_layer import NnxLayer
from tdjax.layers.options import Arguments, Options
from tdjax.layers.run import run_layer, run_outputs
from tdjax.strategies import StrategyLike, parse

_PATH = "_tdjax_path"


class TimeDistributed(nnx.Module):
    """Apply a layer to every step of `(batch, time, ...)`, with the same weights.

    The meaning is a loop over steps, whichever strategy computes it. The layer stays as it is, at
    `.layer`. Batch normalization in training pools its statistics over batch and time, with one
    update a call. Streams of randomness advance once a call. What the layer sows comes back as
    `(batch, time, ...)`, scalars as `(time,)`.

    Args:
        layer: a module, a method of one, or a function of one step.
        strategy: a name ("vmap", "map", "unroll", "fold", "packed", "auto") or an object, as
            `tdjax.Fold(chunk_size=64)`. It never changes the answer.
        rng: "split": every step draws its own noise, the same under every strategy; "shared": one
            dropout mask for all steps.
        pooled: None or True: batch statistics over batch and time. False: those of each step, and
            running values updated by their mean over steps. True also folds a layer that mixes
            rows.
        state: None: mutable state must come out equal for all steps; "carry": the steps run in
            order, each with the state that the one before it wrote.
        sum_collections: types of `nnx.Variable`, or their names, whose sown values are added up.
        in_axes: where time is in each positional argument, as in `tdjax.time_distributed`.
        out_axes: where time goes in the outputs.
        masked_output: what masked steps return: "zero", or "keep" for what was computed.
        partition: on a mesh, the axes of it that batch and time are spread over, as in
            `tdjax.time_distributed`. Batch statistics are those of all devices.

    >>> import jax.numpy as jnp
    >>> head = TimeDistributed(nnx.Linear(16, 64, rngs=nnx.Rngs(0)))
    >>> head(jnp.ones((32, 10, 16))).shape
    (32, 10, 64)
    """

    method: str | None = None

    def __init__(
        self,
        layer: StepLike,
        *,
        strategy: StrategyLike = "auto",
        rng: Literal["split", "shared"] = "split",
        pooled: bool | None = None,
        state: Literal["carry"] | None = None,
        sum_collections: Sequence[str | type[nnx.Variable[Any]]] = (),
        in_axes: Axes = 1,
        out_axes: Axes = 1,
        masked_output: Literal["zero", "keep"] = "zero",
        partition: Any = None,
    ) -> None:
        check_layer(layer)
        options = Options(
            parse(strategy),
            rng,
            pooled,
            state,
            cast("tuple[Any, ...]", sum_collections),
            in_axes,
            out_axes,
            masked_output,
            partition,
        )
        given: Any = layer
        if inspect.ismethod(given) and isinstance(given.__self__, nnx.Module):
            given, self.method = given.__self__, given.__name__
        self.layer = given
        self.options = nnx.static(options)

    def __call__(
        self,
        x: Any,
        *args: Any,
        mask: MaskLike = None,
        seq_lengths: MaskLike = None,
        **kwargs: Any,
    ) -> Any:
        """Run every step.

        Args:
            x: `(batch, time, ...)`, or a pytree of these.
            args: further arguments, mapped over time as `in_axes` says.
            mask: bool `(batch, time)`, True for real steps; a layer that takes `mask` gets its
                step's part of it.
            seq_lengths: int `(batch,)`, in place of a mask.
            kwargs: given to the layer as they are (`deterministic=`, `rngs=`).

        Raises:
            ValueError, TypeError: arguments that do not fit.
            StrategyError: the strategy cannot keep the meaning for this layer.
        """
        check_arguments((x, *args))
        if not isinstance(self.layer, nnx.Module):
            options, path = self.options.for_function(), path_of(self)
            return run_over_time(self.layer, options, (x, *args), kwargs, mask, seq_lengths, path)
        function = getattr(type(self.layer), self.method or "__call__")
        given = Arguments((x, *args), kwargs, mask, seq_lengths)
        return distribute(self.layer, function, self.options, given, path_of(self))


def distribute(
    module: nnx.Module,
    function: Callable[..., Any],
    options: Options,
    given: Arguments,
    path: str = "",
) -> Any:
    """Run `function(module, *step, **kwargs)` over time, and write its state back."""
    layer = NnxLayer(module, function, given.kwargs, options.sum_collections)
    plain = {k: value for k, value in given.kwargs.items() if not isinstance(value, nnx.Pytree)}
    given = Arguments(given.args, plain, given.mask, given.seq_lengths)
    if hasattr(module, "_nnx_tabulate_id"):
        # `nnx.tabulate` drops what layers write, and lists every shape that they are called with.
        return run_outputs(layer, options, given)
    with site(lambda: _place_of(module, function, path)):
        output, written = run_layer(layer, options, given)
    layer.publish(written)
    return output


def name_paths(model: nnx.Module) -> None:
    """Note in every module of a model, a copy, where it is: for `explain`, which shows it.

    The note is part of what Flax's transforms take apart and put together again.
    """
    for path, module in nnx.iter_modules(model):
        if path:
            setattr(module, _PATH, "/".join(map(str, path)))


def path_of(module: Any) -> str:
    """Return where a module is in its model, as `name_paths` has noted."""
    return getattr(module, _PATH, "")


def _place_of(module: nnx.Module, function: Callable[..., Any], path: str) -> str:
    path = path or path_of(module)
    if inspect.unwrap(function) is not inspect.unwrap(type(module).__call__):
        return place_of(function, path)
    return path or f"TimeDistributed({type(module).__name__})"


def check_arguments(args: tuple) -> None:
    """Raise TypeError for streams of randomness, or other state, among arguments over time."""
    for index, arg in enumerate(args):
        if isinstance(arg, jax.Array):  # as most are
            continue
        for leaf in jax.tree.leaves(arg, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)):
            if isinstance(leaf, nnx.Variable) and not isinstance(leaf, nnx.Param):
                raise TypeError(
                    f"argument {index} ({type(arg).__name__}) holds state ({type(leaf).__name__}), "
                    f"which has no steps. Give it by keyword, as in rngs=rngs: every step then "
                    f"draws its own noise from it, and what is written to it is kept."
                )


def check_layer(layer: Any) -> None:
    """Raise TypeError unless `layer` can be applied over time."""
    if isinstance(layer, type):
        raise TypeError(
            f"layer is the class {layer.__name__}; it must be an instance: "
            f"TimeDistributed({layer.__name__}(..., rngs=rngs))."
        )
    if is_linen(layer):
        raise TypeError(
            f"layer is {type(layer).__name__}, a Linen module: use tdjax.linen.TimeDistributed."
        )
    if not callable(layer):
        raise TypeError(
            f"layer is {layer!r} ({type(layer).__name__}); it must be an NNX module or a function "
            f"of one step."
        )
