"""What is tested: a function or a layer, as a call whose steps a loop can run."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.core.arrays import is_array
from tdjax.core.axes import Axes
from tdjax.core.call import Call
from tdjax.flax_guard import linen_module, nnx_module
from tdjax.function import Signature, TimeOptions, bind
from tdjax.layers.layer import means_rows
from tdjax.strategies import Fold, Packed, Strategy, Vmap, parse
from tdjax.transform import TimeDistributed, time_distributed

_OF_CALL = ("mask", "seq_lengths", "kwargs")
_OF_FUNCTION = ("in_axes", "out_axes", "masked_output", "partition", "axis_size")
_OF_LAYER = ("in_axes", "out_axes", "masked_output", "partition", "rng", "pooled", "variables")


@dataclasses.dataclass(frozen=True)
class Tested:
    """A function or a layer, as a call whose steps a loop can run, and as strategies run it."""

    call: Call
    run: Callable[[Strategy, Sequence[Any]], Any]
    own: Strategy | None


def tested(fun: Any, args: tuple, options: dict[str, Any], title: str) -> Tested:
    """Return what is tested, bound to its arguments, or raise for what cannot be."""
    if inspect.isclass(fun) or not callable(fun):
        raise TypeError(
            f"{title}: got {fun!r}; give a step function, or an instance of a Flax module."
        )
    for name in ("axis_name", "state", *["pooled"] * isinstance(fun, TimeDistributed)):
        owner = getattr(fun, "options", fun)
        if options.get(name) or (not inspect.isfunction(fun) and getattr(owner, name, None)):
            raise ValueError(
                f"{title}: {name} joins steps, and so it has another meaning than the loop that "
                f"runs them one by one."
            )
    linen, nnx = linen_module(), nnx_module()
    if isinstance(fun, linen):
        return _linen_subject(fun, args, _known(title, options, (*_OF_LAYER, "rngs")))
    if isinstance(fun, nnx):
        return _nnx_subject(fun, args, _known(title, options, _OF_LAYER[:-1]))
    return _function_subject(fun, args, _known(title, options, _OF_FUNCTION))


def _known(title: str, options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    names = (*_OF_CALL, *names)
    for name in options:
        if name not in names:
            raise TypeError(f"{title} has no option {name!r} here; it has {', '.join(names)}.")
    return dict(options)


def _of_call(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the mask and the keyword arguments out of the options."""
    masks = {name: options.pop(name, None) for name in ("mask", "seq_lengths")}
    return masks, dict(options.pop("kwargs", None) or {})


def _function_subject(fun: Any, args: tuple, options: dict[str, Any]) -> Tested:
    masks, kwargs = _of_call(options)
    own = None
    if isinstance(fun, TimeDistributed):
        own = fun.options.strategy
        options = {**_fields(fun.options, _OF_FUNCTION), **options}
        fun = fun.__wrapped__
    settings = TimeOptions(**options)
    settings.check()
    call = bind(fun, settings, args, kwargs, **masks)

    def run(strategy: Strategy, leaves: Sequence[Any]) -> Any:
        wrapped = time_distributed(fun, strategy=strategy, **options)
        return wrapped(*_with_leaves(args, leaves), **masks, **kwargs)

    return Tested(call, run, own)


def _fields(options: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def _with_leaves(args: Any, leaves: Sequence[Any]) -> Any:
    """Return arguments with other arrays."""
    flat, tree = jax.tree.flatten(args)
    arrays = iter(leaves)
    return jax.tree.unflatten(tree, [next(arrays) if is_array(x) else x for x in flat])


def _linen_subject(layer: Any, args: tuple, options: dict[str, Any]) -> Tested:
    import flax.linen as nn

    from tdjax.linen import TimeDistributed as Wrapper
    from tdjax.linen import options_of

    class Holder(nn.Module):
        """What a wrapped layer is without its wrapper: a submodule called `layer`."""

        layer: Any

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.layer(*args, **kwargs)

    masks, kwargs = _of_call(options)
    variables, rngs = options.pop("variables", None), options.pop("rngs", None)
    if variables is None and len(args) > 1 and _holds_variables(args[0]):
        variables, *rest = args
        args = tuple(rest)
    own = layer.strategy if isinstance(layer, Wrapper) else None
    wrapper = layer.clone(**options) if isinstance(layer, Wrapper) else Wrapper(layer, **options)
    rngs = {"dropout": jax.random.key(1)} if rngs is None else rngs
    if variables is None:
        first = wrapper.clone(strategy="vmap")
        variables = first.init({"params": jax.random.key(0), **rngs}, *args, **masks, **kwargs)
        variables = {name: part for name, part in variables.items() if name != "intermediates"}
    elif not isinstance(layer, Wrapper) and not _are_of_wrapper(variables):
        variables = {name: {"layer": part} for name, part in variables.items()}
    state = [name for name in variables if name != "params"]
    held = wrapper.layer

    def step(variables: Any, index: Any, *step: Any, **kwargs: Any) -> Any:
        keys = {name: _key_of_step(key, index, wrapper.rng) for name, key in rngs.items()}
        return Holder(held).apply(variables, *step, rngs=keys, mutable=state, **kwargs)[0]

    def run(strategy: Strategy, leaves: Sequence[Any]) -> Any:
        variables, _, *rest = _with_leaves(given, leaves)
        timed = wrapper.clone(strategy=strategy)
        return timed.apply(variables, *rest, rngs=rngs, mutable=state, **masks, **kwargs)[0]

    kind = type(held if isinstance(layer, Wrapper) else layer)
    named = _named(step, kind.__call__, kind.__name__, masks)
    call, given = _bind_layer(named, options_of(wrapper), variables, args, kwargs, masks)
    return Tested(call, run, None if own is None else parse(own))


def _holds_variables(tree: Any) -> bool:
    return hasattr(tree, "keys") and hasattr(tree.get("params"), "keys")


def _are_of_wrapper(variables: Any) -> bool:
    return all(list(part) == ["layer"] for part in variables.values())


def _nnx_subject(layer: Any, args: tuple, options: dict[str, Any]) -> Tested:
    from flax import nnx

    from tdjax.nnx import TimeDistributed as Wrapper

    masks, kwargs = _of_call(options)
    own = layer.options.strategy if isinstance(layer, Wrapper) else None
    if isinstance(layer, Wrapper):
        settings = {**vars(layer.options), **options}
        settings.pop("strategy")
        held, method = layer.layer, layer.method
    else:
        settings, held, method = options, layer, None
    if not isinstance(held, nnx.Module):
        subject = _function_subject(held, args, {**options, **masks, "kwargs": kwargs})
        return dataclasses.replace(subject, own=own)
    graph, state = nnx.split(held)

    def step(variables: Any, index: Any, *step: Any, **kwargs: Any) -> Any:
        module: Any = nnx.merge(graph, variables)
        for _, key in nnx.to_flat_state(nnx.state(module, nnx.RngKey)):
            key.set_value(_key_of_step(key.get_value(), index, wrapper.options.rng))
        return getattr(module, method or "__call__")(*step, **kwargs)

    def run(strategy: Strategy, leaves: Sequence[Any]) -> Any:
        variables, _, *rest = _with_leaves(given, leaves)
        module: Any = nnx.merge(graph, variables)
        bound = getattr(module, method) if method else module
        timed: Any = Wrapper(bound, strategy=strategy, **settings)
        return timed(*rest, **masks, **kwargs)

    wrapper = Wrapper(held, **settings)
    named = _named(step, getattr(held, method or "__call__"), type(held).__name__, masks)
    call, given = _bind_layer(named, wrapper.options, state, args, kwargs, masks)
    return Tested(call, run, own)


def _key_of_step(key: Any, index: Any, rng: str) -> Any:
    return key if rng == "shared" else jax.random.fold_in(key, index)


def _named(step: Callable[..., Any], like: Any, title: str, masks: Any) -> Callable[..., Any]:
    """Give a step the parameters of a layer's function, for messages and for `mask`."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [inspect.Parameter(name, kinds[0]) for name in ("variables", "step")]
    try:
        own = [p for p in inspect.signature(like).parameters.values() if p.name != "self"]
    except (ValueError, TypeError):
        own = []
    names = [p.name for p in own if p.kind in kinds and p.name != "mask"]
    parameters += [inspect.Parameter(name, kinds[0]) for name in names if name.isidentifier()]
    axes = 2 if masks["mask"] is None else jnp.ndim(masks["mask"])
    if any(p.name == "mask" for p in own) and means_rows(like, axes):
        parameters.append(inspect.Parameter("mask", inspect.Parameter.KEYWORD_ONLY, default=None))
    step.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    step.__name__ = step.__qualname__ = title
    return step


def _bind_layer(
    step: Any, options: Any, variables: Any, args: tuple, kwargs: Any, masks: Any
) -> tuple[Call, tuple]:
    """Return the call of a layer as a function of its variables, and its arguments."""
    axes: Axes = options.in_axes
    of_args = tuple(axes) if isinstance(axes, (tuple, list)) else (axes,) * len(args)
    # Their number of steps is known once the arguments have been looked at.
    settings = TimeOptions(
        (None, 0, *of_args), options.out_axes, masked_output=options.masked_output
    )
    alone = dataclasses.replace(settings, in_axes=of_args)
    own = Signature.of(step)
    own = Signature(own.title, own.names[2:], of_layer=True)
    time = bind(step, alone, args, **masks, signature=own).time
    given = (variables, jnp.arange(time), *args)
    return bind(step, settings, given, kwargs, **masks), given


def chosen(subject: Tested, strategies: Sequence[Any] | None) -> list[Any]:
    """Return the strategies to test: those that were named, else all that fit."""
    if strategies is not None:
        given = [strategies] if isinstance(strategies, (str, Strategy)) else list(strategies)
        if not given:
            raise ValueError("strategies is empty; name some, or leave it out for all.")
        return given
    call = subject.call
    found: list[Any] = ["vmap", "map", "unroll", Vmap(chunk_size=2), "fold", "auto"]
    if call.batch:
        found += [Fold(chunk_size=call.batch + 1), Fold(chunk_size=1)]
    if call.mask is not None:
        found += ["packed", Packed(chunk_size=2)]
    return found if subject.own is None else [*found, subject.own]
