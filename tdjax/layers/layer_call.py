"""One call of a wrapper, checked, and the pure step that a strategy runs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from tdjax.core.arrays import take_arrays
from tdjax.core.axes import broadcast_axes, time_size
from tdjax.core.call import Call, Role
from tdjax.function import Signature, as_step, bind, role_of
from tdjax.layers.device_part import DevicePart
from tdjax.layers.layer import Layer, Statistics, StepInputs
from tdjax.layers.nesting import Scalars, collecting_scalars, is_scalar
from tdjax.layers.noise import fold_keys, step_keys
from tdjax.layers.options import Options
from tdjax.strategies import Strategy
from tdjax.strategies.rows.padding import fill, first_real, real_steps

# What steps write, by how it comes back: one value that is equal for all steps; a value of each
# step; stacked as (batch, time, ...); stacked as (time,).
EQUAL, EACH, ROWS, SCALARS = "equal", "each", "rows", "scalars"
_OUT_AXES = {EQUAL: None, EACH: 0, ROWS: 1, SCALARS: 0}


@dataclasses.dataclass(frozen=True)
class Way:
    """How a call is run, once it is known what the layer writes.

    Attributes:
        strategy: what runs.
        pooled: the layer sees all steps as one batch.
        axis_name: the name of the time axis, if batch normalization averages over it.
        each: every step returns batch statistics of its own.
        masked: batch normalization counts real rows only.
        frozen: batch normalization uses its running statistics.
        reason: why it is run like this, a sentence.
    """

    strategy: Strategy
    pooled: bool = False
    axis_name: str | None = None
    each: bool = False
    masked: bool = False
    frozen: bool = False
    reason: str = "It was asked for."

    @property
    def one_batch(self) -> bool:
        """Whether the layer really is called once, with all steps as one batch."""
        return self.pooled and self.strategy.folds and self.strategy.at_once


@dataclasses.dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a wrapper: its layer, its options and its arguments, checked.

    Attributes:
        layer: what is called on every step.
        options: those of the wrapper.
        args: the arguments over time.
        kwargs: the same for every step.
        bound: `args` and the mask, with the sizes and axes found in them.
        axis_name: a name for the time axis.
        part: which device's part of the whole call this is; None for the whole.
    """

    layer: Layer
    options: Options
    args: tuple
    kwargs: dict[str, Any]
    bound: Call
    axis_name: str
    part: DevicePart | None = None

    @functools.cached_property
    def keys(self) -> dict[str, Any]:
        """A key a step for every stream, `(time, ...)`."""
        part, time = self.part, self.bound.time
        first = 0 if part is None else part.first_step(time)
        keys = {
            name: step_keys(key, self.options.rng, time, first)
            for name, key in self.layer.keys.items()
        }
        return keys if part is None else part.keys_of_rows(keys)

    @property
    def mask(self) -> Any:
        """The mask of the call, or None."""
        return self.bound.mask

    def bind_step(self, way: Way) -> Call:
        """Return the call of the pure step that takes variables, keys and arguments."""
        layer, bound, arrays = self.layer, self.bound, self.layer.array_names
        values, arguments = [layer.variables[name] for name in arrays], list(bound.leaves)
        if way.masked:
            values, arguments = self._fill_masked_rows(values)
        keys = self.keys
        if way.one_batch:
            keys = {name: fold_keys(key, bound.batch) for name, key in keys.items()}
        leaves: list[tuple[str, Any, int | None, Role]] = []  # variables come first, then keys
        for name, value in zip(arrays, values, strict=True):
            axis = self._variable_axis(name)
            leaves.append((f"variables[{name!r}]", value, axis, role_of(value, axis, bound.batch)))
        for name in sorted(keys):
            # An array of keys, of stacked layers, does not lead with rows.
            place: tuple[int | None, Role] = (None, "shared") if way.one_batch else (0, "step")
            leaves.append((f"keys[{name!r}]", keys[name], *place))
        leaves.extend(zip(bound.names, arguments, bound.axes, bound.roles, strict=True))
        if layer.takes_mask(self.mask) or way.masked:
            leaves.append(("mask", bound.mask, 1, "rows"))
        names, given, axes, roles = zip(*leaves, strict=True)
        time_size(names, given, axes, bound.time)
        return bound.replace(
            step=as_step(self._step(way, arrays), layer.function, layer.title),
            names=names,
            leaves=given,
            axes=axes,
            roles=roles,
            out_axes=(self.options.out_axes, _OUT_AXES),
            axis_name=way.axis_name,
            pooled=way.pooled,
        )

    def output_axes(self, output: Any) -> list[int | None]:
        """Return where time goes in each leaf of an output, as the caller says."""
        return broadcast_axes("out_axes", self.options.out_axes, output, self.layer.title)

    def _step(self, way: Way, arrays: list[str]) -> Callable[..., Any]:
        """Return the step as a function of its leaves, in the order of `bind_step`."""
        layer, takes_mask = self.layer, self.layer.takes_mask(self.mask)
        variables, streams = layer.variables, sorted(layer.keys)
        _, put_args = take_arrays(self.args)
        first, last = len(arrays), len(arrays) + len(streams)

        def step(values: list[Any]) -> Any:
            held = {**variables, **dict(zip(arrays, values[:first], strict=True))}
            keys = dict(zip(streams, values[first:last], strict=True))
            args, mask = put_args(values[last:]), values[-1]
            kwargs = {**self.kwargs, "mask": mask} if takes_mask else self.kwargs
            names, statistics = self._averaged_axes(way), None
            if way.masked or names or way.frozen:
                statistics = Statistics(names, _real_rows(mask) if way.masked else None, way.frozen)
            scalars: Scalars = []
            with collecting_scalars(scalars):
                output, after = layer(StepInputs(held, keys, args, kwargs, statistics))
            self.output_axes(output)  # the axes of all that is returned would fail in other words
            return output, _group_writes(layer, held, after, way, scalars)

        return step

    def _averaged_axes(self, way: Way) -> tuple[str, ...]:
        """Return the named axes that batch normalization averages over, beside its rows."""
        names = () if way.axis_name is None else (way.axis_name,)
        return names if self.part is None else (*names, *self.part.averaged_axes(way.each))

    def _variable_axis(self, name: str) -> int | None:
        """Perturbations have a value for every step; all other variables are shared."""
        rank = self.layer.variables[name].ndim
        return min(rank - 1, 1) if rank and self.layer.role(name) == "perturbation" else None

    def _fill_masked_rows(self, variables: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return variables and arguments in which masked rows are copies of a real one.

        Even with a mask of its own, batch normalization gives NaN gradients for real rows where
        padding holds NaN.
        """
        find = first_real if self.part is None else self.part.first_real
        return fill(self.bound, real_steps(self.mask), variables, list(self.bound.leaves), find)


def _without_mask(layer: Layer) -> tuple[str, ...]:
    """Return the names of a step's parameters other than the mask, which is given by keyword."""
    return tuple(name for name in layer.signature.names if name != "mask")


def _real_rows(mask: Any) -> Any:
    """Return which rows of a step are real."""
    return mask if mask.ndim == 1 else mask.any(axis=tuple(range(1, mask.ndim)))


def _group_writes(
    layer: Layer, before: dict[str, Any], after: dict[str, Any], way: Way, scalars: list
) -> dict[str, dict]:
    """Group what a step has written by how it comes back from all steps."""
    groups: dict[str, dict] = {group: {} for group in _OUT_AXES}
    for name, value in after.items():
        if name in before and before[name] is value:
            continue
        role = layer.role(name)
        if role == "statistic":
            group = EACH if way.each else EQUAL
        elif role in ("state", "counter") and name in before:
            group = EQUAL
        else:
            scalar = not jnp.ndim(value) or is_scalar(layer, name, value, scalars)
            group = SCALARS if scalar else ROWS
        groups[group][name] = value
    return groups


def bind_arguments(
    layer: Layer, options: Options, args: tuple, mask: Any, seq_lengths: Any = None
) -> Call:
    """Check the arguments of a call and find its time, batch and mask; its step is not called."""
    given = mask is not None or seq_lengths is not None
    names = _without_mask(layer) if given else layer.signature.names
    signature = Signature(layer.title, names, of_layer=True)
    return bind(
        layer.function,
        options.for_function(),
        args,
        mask=mask,
        seq_lengths=seq_lengths,
        signature=signature,
    )
