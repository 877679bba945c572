"""`time_distributed`: the public edge. It checks a call once and hands it to a strategy."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from tdjax._axes import (
    Axes,
    broadcast_axes,
    check_axes,
    is_array,
    leaf_names,
    normalize_in_axis,
    time_size,
)
from tdjax._call import Call, Role, trace
from tdjax._equation import hide_own_frames
from tdjax._flax_guard import lift_method, no_module_in_use, wrap_module
from tdjax._mask import resolve_mask
from tdjax._symbolic import is_symbolic
from tdjax.partition import check_partition, run
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
        strategy: a name ("vmap", "map", "unroll", "fold", "packed", "auto") or an object
            (`tdjax.Vmap`, `tdjax.Fold`, `tdjax.Packed`). It never changes the answer.
        axis_name: a name for the time axis, for `jax.lax.pmean` and the like inside `fun`.
        pooled: let `fun` see all steps as one batch of `batch * time` rows instead (Haiku's and
            Flax's `BatchApply`): its statistics then run over both.
        masked_output: what masked steps give: "zero", or "keep" for whatever was computed, which
            is nothing under "packed".
        partition: on a mesh, the axes of it that the batch and the steps are spread over,
            `jax.sharding.PartitionSpec("data", "seq")`: every device runs the strategy on its own
            block, and nothing moves between them. Where the mesh is explicit, the types of the
            arguments say so. Mesh axes that are not named stay automatic.
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
    options: dict[str, Any] = {
        "in_axes": in_axes,
        "out_axes": out_axes,
        "strategy": parse(strategy),
        "axis_name": axis_name,
        "pooled": pooled,
        "masked_output": masked_output,
        "partition": partition,
        "axis_size": axis_size,
    }
    _check_options(options)
    if fun is None:
        return functools.partial(time_distributed, **options)
    if not callable(fun):
        raise TypeError(
            f"fun is {fun!r} ({type(fun).__name__}); it must be a function of one step."
        )
    module = wrap_module(fun, options)
    return TimeDistributed(fun, options) if module is None else module


def _check_options(options: dict[str, Any]) -> None:
    check_axes("in_axes", options["in_axes"])
    check_axes("out_axes", options["out_axes"])
    if options["masked_output"] not in ("zero", "keep"):
        raise ValueError(
            f'masked_output is {options["masked_output"]!r}; it must be "zero" or "keep".'
        )
    if not isinstance(options["pooled"], bool):
        raise TypeError(f"pooled is {options['pooled']!r}; it must be True or False.")
    check_partition(options["partition"])
    size = options["axis_size"]
    if size is not None and not is_symbolic(size) and (type(size) is not int or size < 0):
        raise ValueError(f"axis_size is {size!r}; it must be an int, the number of steps.")


class TimeDistributed:
    """A step function applied over time; what `time_distributed` returns."""

    def __init__(self, fun: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, fun)
        self.__wrapped__ = fun
        self.options = options
        self._parameters = _positional_parameters(fun)
        self._takes_mask = _takes_mask(fun)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind to an instance, so that methods can be decorated."""
        if instance is None:
            return self
        bound = self.__wrapped__.__get__(instance, owner)
        return TimeDistributed(bound, self.options)

    def __repr__(self) -> str:
        name = getattr(self.__wrapped__, "__qualname__", repr(self.__wrapped__))
        return f"time_distributed({name}, strategy={str(self.options['strategy'])!r})"

    def __call__(self, *args: Any, mask: Any = None, seq_lengths: Any = None, **kwargs: Any) -> Any:
        """Run every step; see `time_distributed`."""
        lifted = lift_method(self.__wrapped__, args, self.options)
        if lifted is not None:
            return lifted(mask=mask, seq_lengths=seq_lengths, **kwargs)
        call = self.bind(args, kwargs, mask, seq_lengths)
        with no_module_in_use(self.__wrapped__):
            if not is_symbolic(call.time) and call.time == 0:
                return no_steps(call)
            return run(call, self.options["strategy"], self.options["partition"])

    def bind(self, args: tuple, kwargs: dict[str, Any], mask: Any, seq_lengths: Any) -> Call:
        """Check the arguments of a call and find their time axes, rows and sizes."""
        hide_own_frames()
        options = self.options
        everything, tree = jax.tree.flatten(args)
        names = leaf_names(args, self._parameters)
        in_axes = options["in_axes"]
        if isinstance(in_axes, (tuple, list)):
            _check_count(in_axes, args)
            in_axes = tuple(in_axes)
        axes = broadcast_axes("in_axes", in_axes, args)
        where = [i for i, leaf in enumerate(everything) if is_array(leaf)]
        leaves = [everything[i] for i in where]
        names = [names[i] for i in where]
        axes = [
            None if axis is None else normalize_in_axis(axis, leaf, name)
            for axis, leaf, name in zip([axes[i] for i in where], leaves, names, strict=True)
        ]
        time = time_size(names, leaves, axes, options["axis_size"])
        given = mask, seq_lengths
        known = mask if mask is not None else seq_lengths
        batch = _batch_size(leaves, axes, known)
        mask = resolve_mask(mask, seq_lengths, batch, time)
        if mask is not None and self._takes_mask:
            names, leaves, axes = [*names, "mask"], [*leaves, mask], [*axes, 1]

        fun, takes_mask = self.__wrapped__, mask is not None and self._takes_mask
        title = getattr(fun, "__qualname__", type(fun).__name__)

        def step(values: list[Any]) -> Any:
            extra = {"mask": values[-1]} if takes_mask else {}
            merged = list(everything)
            for index, value in zip(where, values, strict=False):
                merged[index] = value
            output = fun(*jax.tree.unflatten(tree, merged), **kwargs, **extra)
            _check_output(output, title)
            return output

        return Call(
            title=title,
            step=step,
            names=tuple(names),
            leaves=tuple(leaves),
            axes=tuple(axes),
            roles=tuple(_role(leaf, axis, batch) for leaf, axis in zip(leaves, axes, strict=True)),
            batch=batch,
            time=time,
            out_axes=options["out_axes"],
            axis_name=options["axis_name"],
            pooled=options["pooled"],
            mask=mask,
            masked_output=options["masked_output"],
            given_mask=given,
        )


def _check_count(in_axes: Sequence[Any], args: tuple) -> None:
    if len(in_axes) != len(args):
        raise ValueError(
            f"in_axes has {len(in_axes)} entries, {in_axes!r}, for {len(args)} positional "
            f"arguments; give one for each (keyword arguments are never mapped and have none)."
        )


def _positional_parameters(fun: Callable[..., Any]) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (ValueError, TypeError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(parameter.name for parameter in parameters if parameter.kind in kinds)


def _takes_mask(fun: Callable[..., Any]) -> bool:
    try:
        return "mask" in inspect.signature(fun).parameters
    except (ValueError, TypeError):
        return False


def _step_shape(leaf: Any, axis: int) -> tuple:
    shape = tuple(leaf.shape)
    return shape[:axis] + shape[axis + 1 :]


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _batch_size(leaves: Sequence[Any], axes: Sequence[int | None], known: Any) -> Any:
    """Return the rows of a step: the leading size of a mapped leaf.

    Where leaves differ, one that agrees with the mask is believed, then one whose time is not its
    first axis: what stands before time is the batch.
    """
    steps = [
        (axis == 0, _is_key(leaf), _step_shape(leaf, axis))
        for leaf, axis in zip(leaves, axes, strict=True)
        if axis is not None
    ]
    with_rows = [entry for entry in steps if entry[2]]
    masked = np.shape(known)[0] if known is not None and np.ndim(known) else None
    if not with_rows or any(entry[2][0] == masked for entry in with_rows):
        return masked
    return min(with_rows, key=lambda entry: (entry[0], entry[1], -len(entry[2])))[2][0]


def _check_output(output: Any, title: str) -> None:
    """Raise TypeError unless a step's output is made of arrays and numbers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(output):
        if not hasattr(leaf, "shape") and not isinstance(leaf, (bool, int, float, complex)):
            raise TypeError(
                f"the output{jax.tree_util.keystr(path)} of {title} is {type(leaf).__name__}, "
                f"needed an array; a step returns arrays and numbers, in any pytree, or None."
                + (" To distribute a function that it makes, call it first." * callable(leaf))
            )


def _role(leaf: Any, axis: int | None, batch: Any) -> Role:
    if axis is None:
        return "shared"
    shape = _step_shape(leaf, axis)
    return "rows" if shape and batch is not None and shape[0] == batch else "step"


def no_steps(call: Call) -> Any:
    """Return empty outputs, of the shapes that steps would have."""
    program = trace(call, call.batch)
    outputs = [
        jnp.zeros(aval.shape, aval.dtype)
        if axis is None
        else jnp.zeros((*aval.shape[:axis], 0, *aval.shape[axis:]), aval.dtype)
        for aval, axis in zip(program.out_avals, program.out_axes(call), strict=True)
    ]
    return jax.tree.unflatten(program.out_tree, outputs)
