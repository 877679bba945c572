"""A Linen module, bound to its scope, as a pure function: lifted as `nn.vmap` lifts.

Lifting keeps what a functional `apply` loses: an outer `capture_intermediates`, shared modules,
partitioning metadata, `nn.remat` around or inside. Names that are not public in Flax are used here:
`flax.core.lift.pack`, `LazyRng`, `Scope.rng_counters` and `linen.transforms.lift_direct_transform`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import lift
from flax.core.scope import LazyRng, Scope
from flax.linen.transforms import lift_direct_transform

from tdjax.core.recent import Recent
from tdjax.layers.batch_norm.linen import normalizing_with
from tdjax.layers.layer import Layer, Role, StepInputs
from tdjax.layers.noise import as_typed_key
from tdjax.layers.shape_checks import Known, check_once

Inside = Callable[["LinenLayer"], tuple[Any, dict[str, Any]]]


def lift_layer(
    module: nn.Module, function: Callable[..., Any], title: str, summed: tuple, inside: Inside
) -> Any:
    """Take a bound module apart, give it to `inside`, and write back what that returns.

    Args:
        module: bound; the variables and streams are its own and those of modules it holds.
        function: called as `function(module, *args, **kwargs)`, one step.
        title: what errors call the layer.
        summed: collections whose values are added up over steps.
        inside: returns the output and the variables written, by name.
    """

    def transform(core: Callable[..., Any], scopes: Any) -> Any:
        def inner(scope_fn: Any, repack_fn: Any, variables: Any, rngs: Any) -> Any:
            lifted = _Lifted(function, title, summed, core, scope_fn, repack_fn, rngs, scopes)
            layer = LinenLayer(lifted, variables)
            output, written = inside(layer)
            return output, layer.pack(written)

        return lift.pack(inner, (True,), (True,), (True,), name="time_distributed")(scopes)

    return lift_direct_transform(transform, (function,), module)


def open_layer(module: nn.Module, root: Scope, name: str, summed: tuple) -> LinenLayer:
    """Take a module apart as `lift_layer` does one that is bound, where nothing can be written.

    That needs no copy of modules that are bound already, which takes Flax most of a millisecond.

    Args:
        module: not bound; it holds all the modules that it is made of.
        root: the scope of the module that owns it.
        name: what it is called there.
        summed: collections whose values are added up over steps.
    """
    child = root.push(name)

    def scope_fn(variables: Any, rngs: Any) -> tuple[Scope]:
        path = (f"time_distributed({name})",)
        ((held,),), ((streams,),) = variables, rngs
        inner = Scope(held, streams, name, path=child.path, debug_path=path)
        inner.rng_counters = child.rng_counters
        return (inner,)

    def core(scopes: tuple[Scope], *args: Any, **kwargs: Any) -> Any:
        return type(module).__call__(module.copy(parent=scopes[0], name=name), *args, **kwargs)

    def repack_fn(scopes: tuple[Scope]) -> Any:
        scopes[0].invalidate()
        return (({},),)

    function, title, rngs = type(module).__call__, type(module).__name__, ((child.rngs,),)
    lifted = _Lifted(function, title, summed, core, scope_fn, repack_fn, rngs, (child,))
    return LinenLayer(lifted, ((_variables_in(root, name),),))


def _variables_in(root: Scope, name: str) -> dict[str, Any]:
    return {collection: dict(tree.get(name, {})) for collection, tree in root.variables().items()}


@dataclasses.dataclass(frozen=True, eq=False)
class _Lifted:
    """The arguments of `lift_layer`, and the parts that Flax takes the module apart into."""

    function: Callable[..., Any]
    title: str
    summed: tuple
    core: Callable[..., Any]
    scope_fn: Any
    repack_fn: Any
    rngs: Any
    scopes: Any

    def streams(self) -> dict[str, LazyRng]:
        """Return the streams of randomness by name."""
        return {
            f"{index}/{stream}": rng
            for index, group in enumerate(self.rngs[0])
            for stream, rng in group.items()
        }


class LinenLayer(Layer):
    """One lifted call; see `Layer`."""

    def __init__(self, lifted: _Lifted, variables: Any, initialized: bool = False) -> None:
        self._lifted, self._before, self._initialized = lifted, variables, initialized
        self.function, self.title = lifted.function, lifted.title
        self._counters = [_copied(scope.rng_counters) for scope in lifted.scopes]
        entering = variables if initialized else _without(variables, lifted.summed)
        flat, self._tree = jax.tree_util.tree_flatten_with_path(entering)
        self._names = [_name(path) for path, _ in flat]
        self._paths = {_name(path): path for path, _ in flat}
        self.variables = dict(zip(self._names, (leaf for _, leaf in flat), strict=True))
        self.keys = {name: as_typed_key(rng.rng) for name, rng in lifted.streams().items()}
        self.may_write = self._may_write()
        self._after: Any = None
        self._last: list[dict] | None = None
        self._shapes_known: Known = Recent(4096)

    def _may_write(self) -> bool:
        held = {self._collection(name) for name in self._names if not self._is_sown(name)}
        return any(
            scope.is_mutable_collection(collection)
            for scope in self._lifted.scopes
            for collection in held | {"batch_stats"}
            if collection not in ("params", "perturbations")
        )

    def _collection(self, name: str) -> str:
        return self._paths[name][2].key

    def _is_sown(self, name: str) -> bool:
        path = self._paths[name]
        in_tuple = any(isinstance(key, jax.tree_util.SequenceKey) for key in path[2:])
        return in_tuple or self._collection(name) == "intermediates" or self.summed(name)

    def role(self, name: str) -> Role:
        """Return what a variable means over time."""
        if self._collection(name) == "batch_stats":
            return "statistic"
        if self._collection(name) == "perturbations":
            return "perturbation"
        return "sown" if self._is_sown(name) else "state"

    def summed(self, name: str) -> bool:
        """Say whether the variable is in one of the collections to be added up."""
        return self._collection(name) in self._lifted.summed

    def path_in_model(self, name: str) -> tuple:
        """Return the collection, the path of the scope and the path inside it."""
        _, scope, *rest = self._paths[name]
        collection, *inside = (jax.tree_util.keystr((key,), simple=True) for key in rest)
        return (collection, *self._lifted.scopes[scope.idx].path, *inside)

    def __call__(self, step: StepInputs) -> tuple[Any, dict[str, Any]]:
        """Bind a copy of the module to variables and keys, and call it."""
        self._set_counters(self._counters)  # every trace of the step starts from these
        entering = jax.tree.unflatten(self._tree, [step.variables[name] for name in self._names])
        inner = self._lifted.scope_fn(entering, self._with_keys(step.keys))
        check_once(inner, self._shapes_known)
        if self._initialized:
            for scope in jax.tree.leaves(inner):
                scope.flags = scope.flags.copy({"initializing": False})
        with normalizing_with(step.statistics):
            output = self._lifted.core(inner, *step.args, **step.kwargs)
        flat, tree = jax.tree_util.tree_flatten_with_path(self._lifted.repack_fn(inner))
        self._paths.update((_name(path), path) for path, _ in flat)
        self._after = [_name(path) for path, _ in flat], tree
        return output, {_name(path): leaf for path, leaf in flat}

    def _set_counters(self, saved: list[dict]) -> None:
        for scope, counters in zip(self._lifted.scopes, saved, strict=True):
            _restore(scope.rng_counters, counters)

    def _with_keys(self, keys: dict[str, Any]) -> Any:
        groups = tuple(
            {
                stream: LazyRng(keys[f"{index}/{stream}"], rng.suffix)
                for stream, rng in group.items()
            }
            for index, group in enumerate(self._lifted.rngs[0])
        )
        return (groups,)

    def pack(self, written: dict[str, Any]) -> Any:
        """Return the variables as Flax takes them back: new values, others as they were."""
        if self._last is not None:
            self._set_counters(self._last)
        if self._after is None:
            return tuple(tuple({} for _ in group) for group in self._before)
        names, tree = self._after
        before, _ = jax.tree_util.tree_flatten_with_path(self._before)
        held = {_name(path): leaf for path, leaf in before}
        for name in written:
            if self.summed(name) and name in held:
                written[name] = written[name] + held[name]
        missing = [name for name in names if name not in written and name not in held]
        if missing:
            # There are no steps, so variables that every step makes do not exist.
            kept = jax.tree.unflatten(tree, [None if n in missing else n for n in names])
            names, tree = jax.tree.flatten(_pruned(kept))
        return jax.tree.unflatten(tree, [written.get(name, held.get(name)) for name in names])

    def initialize(self, args: tuple, kwargs: dict[str, Any], time: Any) -> tuple[Any, dict]:
        """Create the variables by one call on one step, as the layer itself would."""
        keys = {name: rng.rng for name, rng in self._lifted.streams().items()}
        output, created = self(StepInputs(self.variables, keys, args, kwargs))
        # The counters after this call are the final ones: computing the outputs draws no
        # parameters, but `nn.scan` traces twice and would count on.
        self._last = [_copied(scope.rng_counters) for scope in self._lifted.scopes]
        for name, value in created.items():
            if self.role(name) == "perturbation" and name not in self.variables:
                created[name] = _over_time(value, time)
        return output, created

    def initialized(self, created: dict[str, Any]) -> LinenLayer:
        """Return the layer with the variables that `initialize` has made."""
        names, tree = self._after
        entering = jax.tree.unflatten(tree, [created[name] for name in names])
        layer = LinenLayer(self._lifted, entering, initialized=True)
        layer._counters = self._counters
        return layer


def _over_time(value: Any, time: Any) -> Any:
    axis = min(value.ndim, 1)
    shape = (*value.shape[:axis], time, *value.shape[axis:])
    return jnp.broadcast_to(jnp.expand_dims(value, axis), shape)


@functools.lru_cache(maxsize=4096)
def _name(path: tuple) -> str:
    """Return `batch_stats/BatchNorm_0/mean`, after the number of its scope if not the first."""
    _, scope, *rest = (jax.tree_util.keystr((key,), simple=True) for key in path)
    return "/".join(rest if scope == "0" else [f"({scope})", *rest])


def _without(variables: Any, collections: tuple) -> Any:
    return tuple(
        tuple({k: v for k, v in scope.items() if k not in collections} for scope in group)
        for group in variables
    )


def _pruned(tree: Any) -> Any:
    if isinstance(tree, dict):
        kept = {key: _pruned(value) for key, value in tree.items()}
        return {key: value for key, value in kept.items() if value not in (None, {}, ())}
    if isinstance(tree, tuple):
        return tuple(_pruned(value) for value in tree)
    return tree


def _copied(counters: dict) -> dict:
    """Return a copy with the same keys, which Flax compares by identity."""
    return {k: _copied(v) if isinstance(v, dict) else v for k, v in counters.items()}


def _restore(counters: dict, saved: dict) -> None:
    """Set counters back in place: scopes of submodules hold parts of the same dictionaries."""
    for key in [key for key in counters if key not in saved]:
        del counters[key]
    for key, value in saved.items():
        if isinstance(value, dict):
            _restore(counters.setdefault(key, {}), value)
        else:
            counters[key] = value
