"""One call of a wrapper, checked, and the step that a strategy is given to run."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.axes import is_array
from tdjax.core.call import Call
from tdjax.function import TimeOptions, bind
from tdjax.layers.device_part import Block
from tdjax.layers.layer import Layer, Statistics
from tdjax.layers.noise.folded_keys import fold_keys
from tdjax.layers.noise.step_keys import step_keys
from tdjax.layers.options import Options
from tdjax.layers.scalars import is_scalar, scalars_inside
from tdjax.layers.signature import parameter_names, takes_mask
from tdjax.strategies import Strategy
from tdjax.strategies.rows.padding import fill, first_real, real_steps

EQUAL, EACH, ROWS, SCALARS = "equal", "each", "rows", "scalars"
_OUT_AXES = {EQUAL: None, EACH: 0, ROWS: 1, SCALARS: 0}


@dataclasses.dataclass(frozen=True)
class Way:
    """How a call is run, once it is known what the layer writes.

    Attributes:
        strategy: what runs.
        pooled: the layer sees all steps as one batch.
        axis_name: batch normalisation averages over this name of time as well.
        each: batch statistics come back from every step.
        masked: batch normalisation counts real rows alone.
        frozen: batch normalisation takes its running statistics.
    """

    strategy: Strategy
    pooled: bool = False
    axis_name: str | None = None
    each: bool = False
    masked: bool = False
    frozen: bool = False

    @property
    def one_batch(self) -> bool:
        """Whether the layer really is called once, with all steps as one batch."""
        return self.pooled and self.strategy.folds and self.strategy.at_once


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """The arguments of one call, with the layer and the settings it is made with."""

    layer: Layer
    options: Options
    args: tuple
    kwargs: dict[str, Any]
    bound: Call
    axis_name: str
    block: Block | None = None
    """Where these arguments lie, if they are one device's part of all."""

    @functools.cached_property
    def keys(self) -> dict[str, Any]:
        """A key a step for every stream, `(time,)`."""
        block, time = self.block, self.bound.time
        first = 0 if block is None else block.first_step(time)
        keys = {
            name: step_keys(key, self.options.rng, time, first)
            for name, key in self.layer.keys.items()
        }
        return keys if block is None else block.keys(keys)

    @property
    def mask(self) -> Any:
        """The mask of the call, or None."""
        return self.bound.mask

    def call(self, way: Way) -> Call:
        """Return the call of the pure step that takes variables, keys and arguments."""
        options, layer = self.options, self.layer
        variables, args = layer.variables, self.args
        if way.masked:
            variables, args = self._filled()
        keys, keys_axis = self.keys, None if way.one_batch else 0
        if way.one_batch:
            batch = self.bound.batch
            keys = {name: fold_keys(key, batch) for name, key in keys.items()}
        per_argument = options.in_axes
        if not isinstance(per_argument, tuple):
            per_argument = (per_argument,) * len(args)
        settings = TimeOptions(
            in_axes=(self._variable_axes(variables), keys_axis, *per_argument),
            out_axes=(options.out_axes, _OUT_AXES),
            axis_name=way.axis_name,
            pooled=way.pooled,
            masked_output=options.masked_output,
            axis_size=self.bound.time,
        )
        call = bind(self._step(way), settings, (variables, keys, *args), mask=self.mask)
        return dataclasses.replace(call, given_mask=self.bound.given_mask)

    def _step(self, way: Way) -> Callable[..., Any]:
        layer = self.layer
        given = takes_mask(layer.function, self.mask)
        takes = given or way.masked

        def run(variables: dict, keys: dict, args: tuple, mask: Any) -> Any:
            kwargs = {**self.kwargs, "mask": mask} if given else self.kwargs
            statistics = None
            names = self._averaged(way)
            if way.masked or names or way.frozen:
                statistics = Statistics(names, _rows(mask) if way.masked else None, way.frozen)
            with scalars_inside() as scalars:
                output, after = layer(variables, keys, args, kwargs, statistics)
            return output, _sort(layer, variables, after, way, scalars)

        if takes:

            def step(variables: dict, keys: dict, *args: Any, mask: Any) -> Any:
                return run(variables, keys, args, mask)
        else:

            def step(variables: dict, keys: dict, *args: Any) -> Any:  # type: ignore[misc]
                return run(variables, keys, args, None)

        return _named(step, layer, takes)

    def _averaged(self, way: Way) -> tuple[str, ...]:
        """Return the names that batch normalisation averages over beside its rows."""
        names = () if way.axis_name is None else (way.axis_name,)
        return names if self.block is None else (*names, *self.block.averaged(way.each))

    def _variable_axes(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Perturbations have a value for every step; all other variables are shared."""
        return {
            name: min(value.ndim - 1, 1)
            if self.layer.role(name) == "perturbation" and is_array(value) and value.ndim
            else None
            for name, value in variables.items()
        }

    def _filled(self) -> tuple[dict[str, Any], tuple]:
        """Return variables and arguments in which masked rows are copies of a real one.

        Even with a mask of its own, batch normalisation gives NaN gradients for real rows where
        padding holds NaN.
        """
        names = [name for name, value in self.layer.variables.items() if is_array(value)]
        held = [self.layer.variables[name] for name in names]
        real = real_steps(self.mask)
        find = first_real if self.block is None else self.block.first_real
        held, leaves = fill(self.bound, real, held, list(self.bound.leaves), find)
        flat, tree = jax.tree.flatten(self.args)
        filled = iter(leaves)
        merged = [next(filled) if is_array(leaf) else leaf for leaf in flat]
        variables = {**self.layer.variables, **dict(zip(names, held, strict=True))}
        return variables, jax.tree.unflatten(tree, merged)


def _rows(mask: Any) -> Any:
    """Return which rows of a step are real."""
    return mask if mask.ndim == 1 else mask.any(axis=tuple(range(1, mask.ndim)))


def _sort(
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


def _named(step: Callable[..., Any], layer: Layer, takes_mask: bool) -> Callable[..., Any]:
    """Make errors name the layer and its parameters."""
    kind = inspect.Parameter
    names = [name for name in parameter_names(layer.function) if name not in ("variables", "keys")]
    parameters = [kind(name, kind.POSITIONAL_ONLY) for name in ("variables", "keys", *names)]
    if takes_mask:
        parameters = [p for p in parameters if p.name != "mask"]
        parameters.append(kind("mask", kind.KEYWORD_ONLY))
    step.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    step.__name__ = step.__qualname__ = layer.title
    return step


def bind_arguments(
    title: str, function: Any, options: Options, args: tuple, mask: Any, seq_lengths: Any
) -> Call:
    """Check the arguments of a call, and find its time, batch and mask."""

    def step(*args: Any) -> None:
        """Stand in for the layer, which is not called here."""

    kind = inspect.Parameter
    names = (name for name in parameter_names(function) if name != "mask")
    step.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [kind(name, kind.POSITIONAL_ONLY) for name in names]
    )
    step.__name__ = step.__qualname__ = title
    settings = TimeOptions(
        in_axes=options.in_axes, out_axes=options.out_axes, masked_output=options.masked_output
    )
    return bind(step, settings, args, mask=mask, seq_lengths=seq_lengths)


_open_axes: contextvars.ContextVar[int] = contextvars.ContextVar("tdjax_open_axes", default=0)


@contextlib.contextmanager
def time_axis() -> Iterator[str]:
    """Give a name for time that no wrapper around this one uses."""
    depth = _open_axes.get()
    token = _open_axes.set(depth + 1)
    try:
        yield f"tdjax_time_{depth}"
    finally:
        _open_axes.reset(token)
