"""`TimeDistributed` for Flax Linen."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import Scope
from flax.errors import InvalidRngError
from flax.linen.module import _global_interceptor_stack

from tdjax.core.arrays import take_arrays
from tdjax.core.axes import Axes
from tdjax.core.mask import MaskLike
from tdjax.core.sites import site
from tdjax.flax_guard import StepLike, is_nnx
from tdjax.function import place_of, run_over_time
from tdjax.layers.layer_call import bind_arguments
from tdjax.layers.linen_layer import LinenLayer, lift_layer, open_layer
from tdjax.layers.options import Arguments, Options
from tdjax.layers.run import run_layer, run_outputs
from tdjax.partition.placement import gather
from tdjax.strategies import StrategyLike

_OWNED = "layer"


class TimeDistributed(nn.Module):
    """Apply a layer to every step of `(batch, time, ...)`, with the same weights.

    The meaning is a loop over steps, whichever strategy computes it. The layer keeps its own
    variable tree, unchanged: under the name `layer` where this wrapper owns it (top level,
    `setup`), at the parent's path where it is made inside a parent's `@nn.compact`, as with
    `nn.remat`. A checkpoint depends neither on the strategy nor on the number of steps. Initial
    values are those of the layer as a submodule at that path, which in a compact method are those
    without a wrapper. `wrapper_variables` makes a wrapper's variables of those of a layer by
    itself, and `layer_variables` gives them back.

    Batch normalization in training pools its statistics over batch and time, with one update a
    call; in evaluation its rows are independent, and every strategy works. What the layer `sow`s,
    and what `capture_intermediates` finds, comes back as `(batch, time, ...)`, scalars as
    `(time,)`.

    Attributes:
        layer: a module, or a function of one step.
        strategy: a name ("vmap", "map", "unroll", "fold", "packed", "auto") or an object, as
            `tdjax.Fold(chunk_size=64)`. It never changes the answer.
        rng: "split": every step draws its own noise, the same under every strategy; "shared": one
            dropout mask for all steps.
        pooled: None or True: batch statistics over batch and time. False: those of each step, and
            running values updated by their mean over steps. True also folds a layer that mixes
            rows.
        state: None: mutable state must come out equal for all steps; "carry": the steps run in
            order, each with the state that the one before it wrote.
        sum_collections: collections whose sown values are added up over steps.
        in_axes: where time is in each positional argument, as in `tdjax.time_distributed`.
        out_axes: where time goes in the outputs.
        masked_output: what masked steps return: "zero", or "keep" for what was computed.
        partition: on a mesh, the axes of it that batch and time are spread over, as in
            `tdjax.time_distributed`. Batch statistics are those of all devices.

    >>> import jax, jax.numpy as jnp
    >>> head = TimeDistributed(nn.Dense(64))
    >>> x = jnp.ones((32, 10, 16))
    >>> variables = head.init(jax.random.key(0), x)
    >>> head.apply(variables, x).shape
    (32, 10, 64)
    """

    layer: StepLike
    strategy: StrategyLike = "auto"
    rng: Literal["split", "shared"] = "split"
    pooled: bool | None = None
    state: Literal["carry"] | None = None
    sum_collections: Sequence[str] = ()
    in_axes: Axes = 1
    out_axes: Axes = 1
    masked_output: Literal["zero", "keep"] = "zero"
    partition: Any = None

    def __post_init__(self) -> None:
        check_layer(self.layer)
        for name in ("in_axes", "out_axes"):
            object.__setattr__(self, name, _kept(getattr(self, name)))
        object.__setattr__(self, "_options", options_of(self))
        super().__post_init__()

    def __repr__(self) -> str:
        """Show the layer, the strategy, and the options that differ from their defaults."""
        options = options_of(self)
        attributes = {"layer": repr(self.layer), **options.shown()}
        lines = ["# attributes", *(f"{name} = {text}" for name, text in attributes.items())]
        body = textwrap.indent("\n".join(lines), "    ")
        return f"TimeDistributed(\n{body}\n)"

    @nn.nowrap
    def apply(self, variables: Any, *args: Any, rngs: Any = None, **kwargs: Any) -> Any:
        """Run every step with the variables given; see `flax.linen.Module.apply`.

        Outside of `jax.jit` a call that writes nothing goes the short way: lifting a module that is
        bound takes as long as all the rest.
        """
        if not _is_plain(self, (variables, *args, rngs, kwargs)):
            return super().apply(variables, *args, rngs=rngs, **kwargs)

        def run(
            root: Scope, *args: Any, mask: Any = None, seq_lengths: Any = None, **kw: Any
        ) -> Any:
            options = self._options
            given = Arguments(args, kw, mask, seq_lengths)
            module: Any = self.layer
            layer = open_layer(module, root, _OWNED, options.sum_collections)
            with _telling(lambda: _OWNED, layer.title, _OWNED):
                return run_layer(layer, options, given)[0]

        return flax.core.apply(run)(variables, *args, rngs=rngs, **kwargs)

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
            kwargs: given to the layer as they are (`train=`, `deterministic=`).

        Raises:
            ValueError, TypeError: arguments that do not fit.
            StrategyError: the strategy cannot keep the meaning for this layer.
        """
        module, function = _method_of(self.layer)
        if module is None:
            options, path = options_of(self).for_function(), "/".join(self.path)
            return run_over_time(self.layer, options, (x, *args), kwargs, mask, seq_lengths, path)
        if self.scope is None:
            raise TypeError(
                f"TimeDistributed({type(module).__name__}) has no variables here: call it through "
                f".init(rngs, x) and .apply(variables, x), or inside another module."
            )
        if module.scope is None:
            raise TypeError(
                f"layer is a method of {type(module).__name__}, which is part of no module that "
                f"is being run; make the module a submodule first, or give the module itself."
            )
        given = Arguments((x, *args), kwargs, mask, seq_lengths)
        _check_given(self, module)
        return distribute(module, function, options_of(self), given, wrapper=self)


def options_of(wrapper: TimeDistributed) -> Options:
    """Return the options of a wrapper as they were given."""
    names = (field.name for field in dataclasses.fields(Options))
    return Options(**{name: _given(getattr(wrapper, name)) for name in names})


def distribute(
    module: nn.Module,
    function: Callable[..., Any],
    options: Options,
    given: Arguments,
    wrapper: TimeDistributed | None = None,
) -> Any:
    """Run `function(module, *step, **kwargs)` over time, on a module that is bound."""
    title = type(module).__name__

    def run(layer: LinenLayer) -> tuple[Any, dict[str, Any]]:
        if module.is_initializing():
            return _initialize(layer, options, given)
        return run_layer(layer, options, given)

    with _telling(lambda: _place_of(module, function, wrapper), title, "/".join(module.path)):
        return lift_layer(module, function, title, options.sum_collections, run)


_ASKED = {"method", "mutable", "capture_intermediates"}


def _is_plain(wrapper: TimeDistributed, given: tuple) -> bool:
    """Say whether a call of `apply` is of arrays, writes nothing, and nobody looks at it."""
    layer, (variables, *args, _, kwargs) = wrapper.layer, given
    if type(wrapper) is not TimeDistributed or not isinstance(layer, nn.Module):
        return False
    if not args or not isinstance(variables, Mapping):
        return False
    if any(module.parent is not None or module.scope is not None for module in (wrapper, layer)):
        return False
    if layer.name is not None or _global_interceptor_stack or _ASKED & kwargs.keys():
        return False
    if not all(isinstance(tree, Mapping) and _OWNED in tree for tree in variables.values() if tree):
        return False
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(given))


@contextlib.contextmanager
def _telling(place: Callable[[], str], title: str, path: str) -> Iterator[None]:
    """Have what is decided inside belong to a layer, and errors of its keys say so."""
    try:
        with site(place):
            yield
    except InvalidRngError as error:
        where = f" at {path}" if path else ""
        error.add_note(
            f"In tdjax.linen.TimeDistributed of {title}{where}: keys are given by name, as in "
            f".apply(variables, x, rngs={{'dropout': key}}), and every step draws from them."
        )
        raise


def _place_of(
    module: nn.Module, function: Callable[..., Any], wrapper: TimeDistributed | None
) -> str:
    """Return the path of a module and its method; before it that of a wrapper beside it.

    A layer that is made in a compact method does not lie in its wrapper, which may have a name.
    """
    path = "/".join(module.path)
    if wrapper is not None and module.path[: len(wrapper.path)] != wrapper.path:
        given = not str(wrapper.name).startswith(f"{type(wrapper).__name__}_")
        path = f"{'/'.join(wrapper.path)} ({path})" if given else path
    if function is not type(module).__call__:
        return place_of(function, path)
    return path or type(module).__name__


def _initialize(
    layer: LinenLayer, options: Options, given: Arguments
) -> tuple[Any, dict[str, Any]]:
    """Create the variables on a single step; then run all steps for the output only."""
    bound = bind_arguments(layer, options, given.args, given.mask, given.seq_lengths)

    def first(leaf: Any, axis: int | None) -> Any:
        if axis is None:
            return leaf
        if bound.time == 0:
            return jnp.zeros(leaf.shape[:axis] + leaf.shape[axis + 1 :], leaf.dtype)
        return jax.lax.index_in_dim(gather(leaf), 0, axis, keepdims=False)

    _, put_arrays = take_arrays(given.args)
    step = put_arrays(map(first, bound.leaves, bound.axes))
    kwargs = given.kwargs
    if layer.takes_mask(bound.mask):
        kwargs = {**kwargs, "mask": first(bound.mask, 1)}
    _, created = layer.initialize(step, kwargs, bound.time)
    return run_outputs(layer.initialized(created), options, given), created


def wrapper_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a layer by itself as those of a wrapper that owns it.

    A wrapper owns its layer at the top level, in `setup`, and where the layer has no parent. In a
    compact method the layer's variables are the parent's, as without a wrapper.

    Args:
        variables: what `layer.init` returns, or some collections of it.

    >>> import jax, jax.numpy as jnp
    >>> layer, x = nn.Dense(64), jnp.ones((32, 10, 16))
    >>> variables = layer.init(jax.random.key(0), x[:, 0])
    >>> TimeDistributed(layer).apply(wrapper_variables(variables), x).shape
    (32, 10, 64)
    """
    return {name: {_OWNED: tree} for name, tree in variables.items()}


def layer_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a wrapper as those of its layer by itself; see `wrapper_variables`.

    Raises:
        ValueError: a collection holds anything but a `layer`.
    """
    for name, tree in variables.items():
        if set(tree) != {_OWNED}:
            raise ValueError(
                f"variables[{name!r}] holds {_listed(tree)}, needed 'layer' alone: these are not "
                f"the variables of a TimeDistributed that owns its layer."
            )
    return {name: tree[_OWNED] for name, tree in variables.items()}


def _check_given(wrapper: TimeDistributed, module: nn.Module) -> None:
    """Raise ValueError if a wrapper that owns its layer was given the variables of the layer."""
    given = {name: tree for name, tree in wrapper.variables.items() if tree}
    owns = module.path == (*wrapper.path, _OWNED)
    if owns and given and not any(_OWNED in tree for tree in given.values()):
        where = f" at {'/'.join(wrapper.path)}" if wrapper.path else ""
        held = "; ".join(f"{name} holds {_listed(tree)}" for name, tree in given.items())
        raise ValueError(
            f"TimeDistributed({type(module).__name__}){where} keeps the variables of its layer "
            f"under the name 'layer', and got some without it: {held}. If these are variables of "
            f"the layer by itself, give tdjax.linen.wrapper_variables(variables)."
        )


def _listed(tree: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, tree)) or "nothing"


class Distributed:
    """A module in use by another one, applied over time; made by `tdjax.time_distributed`."""

    def __init__(self, module: nn.Module, options: Options) -> None:
        self.module, self.options = module, options

    def __repr__(self) -> str:
        return f"time_distributed({type(self.module).__name__}, {str(self.options.strategy)!r})"

    def __call__(self, *args: Any, mask: Any = None, seq_lengths: Any = None, **kwargs: Any) -> Any:
        """Run every step; see `tdjax.linen.TimeDistributed`."""
        given = Arguments(args, kwargs, mask, seq_lengths)
        return distribute(self.module, type(self.module).__call__, self.options, given)


def wrap(module: Any, options: Options) -> Any:
    """Return what `tdjax.time_distributed(module)` is: a wrapper, or a call of a module in use."""
    check_layer(module)
    if module.scope is None:  # in setup a module has a parent before it has a scope
        return TimeDistributed(module, **vars(options))
    return Distributed(module, options)


def check_layer(layer: Any) -> None:
    """Raise TypeError unless `layer` can be applied over time."""
    if isinstance(layer, type):
        raise TypeError(
            f"layer is the class {layer.__name__}; it must be an instance: "
            f"TimeDistributed({layer.__name__}(...))."
        )
    if is_nnx(layer):
        raise TypeError(
            f"layer is {type(layer).__name__}, an NNX module: use tdjax.nnx.TimeDistributed. Its "
            f"weights would not be parameters here."
        )
    if not callable(layer):
        raise TypeError(
            f"layer is {layer!r} ({type(layer).__name__}); it must be a Linen module or a function "
            f"of one step."
        )
    scope = getattr(layer, "scope", None) if isinstance(layer, nn.Module) else None
    alone = scope is not None and scope.path == () and scope.parent is None
    if alone and isinstance(layer.parent, Scope):  # with `nn.share_scope` it is a module
        raise TypeError(
            f"layer is {type(layer).__name__} bound to variables with .bind(); give the module "
            f"itself and pass the variables to TimeDistributed(...).apply."
        )


def _method_of(layer: Any) -> tuple[nn.Module | None, Callable[..., Any]]:
    """Return the module and the function to call with it; no module for a plain function."""
    if isinstance(layer, nn.Module):
        return layer, type(layer).__call__
    if inspect.ismethod(layer) and isinstance(layer.__self__, nn.Module):
        return layer.__self__, layer.__func__
    return None, layer


@dataclasses.dataclass(frozen=True)
class _Kept:
    """Axes, and their containers, which Flax would replace by tuples and frozen dicts."""

    axes: tuple
    tree: Any

    def __repr__(self) -> str:
        return repr(_given(self))


def _kept(axes: Any) -> Any:
    flat = axes if isinstance(axes, tuple) else (axes,)
    if all(axis is None or isinstance(axis, (int, _Kept)) for axis in flat):
        return axes
    leaves, tree = jax.tree.flatten(axes, is_leaf=lambda axis: axis is None)
    return _Kept(tuple(leaves), tree)


def _given(axes: Any) -> Any:
    return jax.tree.unflatten(axes.tree, axes.axes) if isinstance(axes, _Kept) else axes
