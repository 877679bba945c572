"""A step function over time: binds a call, checks it once and hands it to a strategy."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.core.arrays import is_array, is_key, is_symbolic, take_arrays
from tdjax.core.axes import (
    Axes,
    argument_names,
    broadcast_axes,
    check_axes,
    check_dtype,
    leaf_names,
    normalize_in_axis,
    time_size,
)
from tdjax.core.call import Call, Role, trace, within_step
from tdjax.core.jaxpr import hide_own_frames, stand_in
from tdjax.core.mask import resolve_mask
from tdjax.core.misfits import nothing_mapped
from tdjax.core.sites import site
from tdjax.flax_guard import no_module_in_use
from tdjax.haiku_guard import run_apart
from tdjax.keras_guard import no_variable_changed
from tdjax.partition.device_block import run_in_blocks
from tdjax.partition.placement import check_partition
from tdjax.strategies import NAMES, Decision, Strategy, Vmap, tell_of

_AUTO = NAMES["auto"]
_AXIS_SIZE = "the number of steps with time_distributed(..., axis_size=)"
_Step = Callable[[list[Any]], Any]


@dataclasses.dataclass(frozen=True)
class TimeOptions:
    """The options of `tdjax.time_distributed`; see there."""

    in_axes: Axes = 1
    out_axes: Axes = 1
    strategy: Strategy = _AUTO
    axis_name: Any = None
    pooled: bool = False
    masked_output: Literal["zero", "keep"] = "zero"
    partition: Any = None
    axis_size: Any = None

    def check(self) -> None:
        """Raise ValueError or TypeError for an option that is not one of its choices."""
        check_axes("in_axes", self.in_axes)
        check_axes("out_axes", self.out_axes)
        if self.masked_output not in ("zero", "keep"):
            raise ValueError(
                f'masked_output is {self.masked_output!r}; it must be "zero" or "keep".'
            )
        if not isinstance(self.pooled, bool):
            raise TypeError(f"pooled is {self.pooled!r}; it must be True or False.")
        check_partition(self.partition)
        size = self.axis_size
        if size is not None and not is_symbolic(size) and (type(size) is not int or size < 0):
            raise ValueError(f"axis_size is {size!r}; it must be an int, the number of steps.")


class OwnKeyword(inspect.Parameter):
    """A keyword of the wrapper around a step function, in the signature that it shows."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """What errors call a step and its positional parameters.

    Attributes:
        title, names: what they call it, and its positional parameters.
        has_mask: whether one of its parameters is called `mask`.
        of_layer: whether it is a layer, whose wrapper has no `axis_size`.
    """

    title: str
    names: tuple[str, ...] = ()
    has_mask: bool = False
    of_layer: bool = False

    @classmethod
    def of(cls, fun: Callable[..., Any], is_method: bool = False) -> Signature:
        """Return that of a function; of a method, as seen by a caller who does not give `self`."""
        function = getattr(fun, "__func__", fun)
        if not isinstance(function, types.FunctionType):
            return cls._read(fun, is_method)
        known, place = _signatures.setdefault(function, {}), (function is fun, is_method)
        if place not in known:
            known[place] = cls._read(fun, is_method)
        return known[place]

    @classmethod
    def _read(cls, fun: Callable[..., Any], is_method: bool) -> Signature:
        title = getattr(fun, "__qualname__", type(fun).__name__)
        try:
            parameters = list(inspect.signature(fun).parameters.values())[is_method:]
        except (ValueError, TypeError):
            return cls(title)
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = tuple(parameter.name for parameter in parameters if parameter.kind in kinds)
        has_mask = any(
            parameter.name == "mask" and not isinstance(parameter, OwnKeyword)
            for parameter in parameters
        )
        return cls(title, names, has_mask)


_signatures: weakref.WeakKeyDictionary[Any, dict[Any, Signature]] = weakref.WeakKeyDictionary()


def place_of(fun: Callable[..., Any], path: str = "") -> str:
    """Return the name and the line of a function, after the path of what it belongs to."""
    inner = inspect.unwrap(fun)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    name = getattr(inner, "__qualname__", None) or type(inner).__name__
    code = getattr(inner, "__code__", None)
    name = f"{path}: {name}" if path else name
    return name if code is None else f"{name} at {code.co_filename}:{code.co_firstlineno}"


def run_over_time(
    fun: Callable[..., Any],
    options: TimeOptions,
    args: tuple,
    kwargs: Mapping[str, Any],
    mask: Any = None,
    seq_lengths: Any = None,
    path: str = "",
) -> Any:
    """Run every step of a call; see `tdjax.time_distributed`.

    Args:
        fun, options: the step function, and how it runs.
        args, kwargs, mask, seq_lengths: what it is called with.
        path: where the wrapper that it belongs to is in a model, if it belongs to one.
    """
    call = bind(fun, options, args, kwargs, mask, seq_lengths)

    def run() -> Any:
        if not is_symbolic(call.time) and call.time == 0:
            return no_steps(call)
        return run_in_blocks(call, options.strategy, options.partition)

    with (
        site(lambda: place_of(fun, path)),
        no_module_in_use(fun),
        no_variable_changed(fun),
    ):
        return run_apart(fun, run)


def bind(
    fun: Callable[..., Any],
    options: TimeOptions,
    args: tuple,
    kwargs: Mapping[str, Any] = MappingProxyType({}),
    mask: Any = None,
    seq_lengths: Any = None,
    signature: Signature | None = None,
) -> Call:
    """Check the arguments of a call and find their time axes, rows and sizes.

    Args:
        fun: the step function.
        options: where its arguments have time, and the like; the strategy does not matter here.
        args: its positional arguments, with their time axes.
        kwargs: its keyword arguments, the same for every step.
        mask: bool `(batch, time, ...)`, or None.
        seq_lengths: int `(batch,)` in place of a mask, or None.
        signature: that of `fun`, if it cannot be read from it.

    Raises:
        ValueError, TypeError: arguments that do not fit.
    """
    hide_own_frames()
    signature = signature or Signature.of(fun)
    in_axes = options.in_axes
    if isinstance(in_axes, (tuple, list)):
        _check_count(in_axes, args)
        in_axes = tuple(in_axes)
    given_names = argument_names(args, signature.names)
    given_axes = broadcast_axes("in_axes", in_axes, args, signature.title, given_names)
    flat = zip(leaf_names(args, given_names), jax.tree.leaves(args), given_axes, strict=True)
    arrays = [entry for entry in flat if is_array(entry[1])]
    for name, leaf, _ in arrays:
        check_dtype(name, leaf)
    names = [name for name, _, _ in arrays]
    leaves, put_arrays = take_arrays(args)
    axes = [
        None if axis is None else normalize_in_axis(axis, leaf, name) for name, leaf, axis in arrays
    ]
    if options.axis_size is None and all(axis is None for axis in axes):
        remedy = "" if signature.of_layer else _AXIS_SIZE
        raise ValueError(
            nothing_mapped(signature.title, given_names, args, kwargs, given_axes, remedy)
        )
    time = time_size(names, leaves, axes, options.axis_size)
    given = mask, seq_lengths
    batch = _batch_size(leaves, axes, mask if mask is not None else seq_lengths)
    mask = resolve_mask(mask, seq_lengths, batch, time)
    takes_mask = signature.has_mask and mask is not None
    if takes_mask:
        names, leaves, axes = [*names, "mask"], [*leaves, mask], [*axes, 1]

    def step(values: list[Any]) -> Any:
        extra = {"mask": values[-1]} if takes_mask else {}
        return fun(*put_arrays(values), **kwargs, **extra)

    return Call(
        title=signature.title,
        step=as_step(step, fun, signature.title),
        names=tuple(names),
        leaves=tuple(leaves),
        axes=tuple(axes),
        roles=tuple(role_of(leaf, axis, batch) for leaf, axis in zip(leaves, axes, strict=True)),
        batch=batch,
        time=time,
        out_axes=options.out_axes,
        axis_name=options.axis_name,
        pooled=options.pooled,
        mask=mask,
        masked_output=options.masked_output,
        given_mask=given,
    )


def as_step(function: _Step, fun: Callable[..., Any], title: str) -> _Step:
    """Return a function of the leaves of one step as the step of a call.

    Args:
        function: calls `fun`.
        fun: the user's function, which errors of JAX name.
        title: what errors of ours call it.
    """

    def step(values: list[Any]) -> Any:
        with within_step(True):
            output = function(values)
        _check_output(output, title)
        return output

    return stand_in(step, fun)


def _check_count(in_axes: Sequence[Any], args: tuple) -> None:
    if len(in_axes) != len(args):
        raise ValueError(
            f"in_axes has {len(in_axes)} entries, {in_axes!r}, for {len(args)} positional "
            f"arguments; give one for each (keyword arguments are never mapped and have none)."
        )


def _step_shape(leaf: Any, axis: int) -> tuple:
    shape = tuple(leaf.shape)
    return shape[:axis] + shape[axis + 1 :]


def _batch_size(leaves: Sequence[Any], axes: Sequence[int | None], known: Any) -> Any:
    """Return the rows of a step: the leading size of a mapped leaf.

    Where leaves differ, one that agrees with the mask counts most, then one whose time is not its
    first axis: the axis before time is the batch.
    """
    mapped = [(leaf, axis) for leaf, axis in zip(leaves, axes, strict=True) if axis is not None]
    steps = [(shape, *each) for each in mapped if (shape := _step_shape(*each))]
    masked = np.shape(known)[0] if known is not None and np.ndim(known) else None
    if not steps or any(shape[0] == masked for shape, _, _ in steps):
        return masked
    if len(steps) > 1:
        steps.sort(key=lambda step: (step[2] == 0, is_key(step[1]), -len(step[0])))
    return steps[0][0][0]


def _check_output(output: Any, title: str) -> None:
    """Raise TypeError unless a step's output is made of arrays and numbers."""
    if all(map(_is_value, jax.tree.leaves(output))):
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(output):
        if not _is_value(leaf):
            raise TypeError(
                f"the output{jax.tree_util.keystr(path)} of {title} is {type(leaf).__name__}, "
                f"needed an array; a step returns arrays and numbers, in any pytree, or None."
                + (" To distribute a function that it makes, call it first." * callable(leaf))
            )


def _is_value(leaf: Any) -> bool:
    return hasattr(leaf, "shape") or isinstance(leaf, (bool, int, float, complex))


def role_of(leaf: Any, axis: int | None, batch: Any) -> Role:
    """Return what a leaf with time at `axis` means to a step of `batch` rows."""
    if axis is None:
        return "shared"
    shape = _step_shape(leaf, axis)
    return "rows" if shape and batch is not None and shape[0] == batch else "step"


def no_steps(call: Call) -> Any:
    """Return empty outputs, of the shapes that steps would have."""
    tell_of(Decision(call, Vmap(), "There are no steps, so that nothing runs."))
    program = trace(call, call.batch)
    outputs = [
        jnp.zeros(aval.shape, aval.dtype)
        if axis is None
        else jnp.zeros((*aval.shape[:axis], 0, *aval.shape[axis:]), aval.dtype)
        for aval, axis in zip(program.out_avals, program.out_axes(call), strict=True)
    ]
    return jax.tree.unflatten(program.out_tree, outputs)
