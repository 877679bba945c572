"""An NNX module as a pure function: split, merged inside the step, split again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
from flax import nnx

from tdjax.layers.batch_norm.nnx import normalizing_with
from tdjax.layers.layer import Layer, Role, StepInputs
from tdjax.layers.nnx_nodes import Path, located, parts, raw, replaced, take_apart
from tdjax.layers.noise import as_typed_key


class NnxLayer(Layer):
    """One call of `function(module, ...)`; see `Layer`.

    Graph nodes among the keyword arguments (`rngs=`) are taken apart and written back as well.
    """

    def __init__(
        self,
        module: nnx.Module,
        function: Callable[..., Any],
        kwargs: dict[str, Any],
        summed: tuple,
    ) -> None:
        given = {name: value for name, value in kwargs.items() if isinstance(value, nnx.Pytree)}
        self._nodes: dict[str, Any] = {"layer": module, **given}
        self._summed = tuple(_variable_type(item) for item in summed)
        self._apart = take_apart(self._nodes, self._is_summed if self._summed else None)
        self._kinds: dict[str, type] = dict(self._apart.places)
        self.variables, self.keys = {}, {}
        for (name, kind), array in zip(self._apart.places, self._apart.arrays, strict=True):
            if issubclass(kind, nnx.RngKey):
                self.keys[name] = as_typed_key(array)
            else:
                self.variables[name] = array
        self.title, self.function = type(module).__name__, function
        inert = (nnx.Param, nnx.RngState, nnx.Intermediate)
        self.may_write = any(not issubclass(self._kinds[name], inert) for name in self.variables)
        self._leaving: Any = ()

    def _is_summed(self, path: Path, value: Any) -> bool:
        return type(value) in self._summed and "__captures__" not in path

    def _leaves(self, flat: Any) -> dict[str, Any]:
        """Return the arrays of a flat state by name, and remember the types of their variables."""
        leaves = {}
        for (name, kind), leaf in located(flat):
            leaves[name], self._kinds[name] = leaf, kind
        return leaves

    def role(self, name: str) -> Role:
        """Return what a variable means over time."""
        kind = self._kinds[name]
        if issubclass(kind, nnx.BatchStat):
            return "statistic"
        if issubclass(kind, nnx.RngState):
            return "counter"
        if issubclass(kind, nnx.Perturbation):
            return "perturbation"
        sown = issubclass(kind, nnx.Intermediate) or kind in self._summed
        return "sown" if sown else "state"

    def summed(self, name: str) -> bool:
        """Say whether the variable is of one of the types to be added up."""
        return self._kinds[name] in self._summed

    def __call__(self, step: StepInputs) -> tuple[Any, dict[str, Any]]:
        """Merge a copy of the module from variables and keys, and call it."""
        known = {**step.variables, **step.keys}
        nodes = self._apart.together(known)
        module = nodes.pop("layer")
        with normalizing_with(module, step.statistics):
            output = self.function(module, *step.args, **{**step.kwargs, **nodes})
        nodes["layer"] = module
        if self._apart.still_holds(nodes, known):
            return output, step.variables
        _, state = nnx.split(nodes)
        self._leaving = nnx.to_flat_state(state)
        after = self._leaves(self._leaving)
        self._check_made(name for name in after if name not in known)
        return output, {name: value for name, value in after.items() if name not in step.keys}

    def _check_made(self, names: Iterable[str]) -> None:
        """Raise ValueError for new state, which has no value before the first step."""
        for name in names:
            kind = self._kinds[name]
            state = (nnx.Param, nnx.BatchStat, nnx.Cache, nnx.RngState)
            bare = not issubclass(kind, nnx.Variable)
            if bare or issubclass(kind, state):
                raise ValueError(
                    f"{self.title} makes {name} ({'an array' if bare else kind.__name__}) while it "
                    f"is called over time; state must exist before. Make it in __init__, or call "
                    f"the layer on one step first; a value that every step makes is an "
                    f"nnx.Intermediate."
                )

    def publish(self, written: dict[str, Any]) -> None:
        """Write new values back into the module."""
        if not written:
            return
        held = nnx.to_flat_state(nnx.state(self._nodes))
        before = dict(held)
        now = self._leaves(held)
        for name in written:
            if self.summed(name) and name in now:
                written[name] = written[name] + now[name]
        leaving = []
        for path, made in self._leaving:
            named, tree = parts(path, raw(made))
            names = [name for name, _ in named]
            if not any(name in written for name in names):
                continue
            value = jax.tree.unflatten(tree, [written.get(name, now.get(name)) for name in names])
            old = before.get(path, made)
            if isinstance(old, nnx.Variable) and old.ref:
                old.get_raw_value()[...] = value
            else:
                leaving.append((path, replaced(old, value)))
        if leaving:
            nnx.update(self._nodes, nnx.from_flat_state(leaving))


def _variable_type(item: Any) -> type:
    if isinstance(item, type) and issubclass(item, nnx.Variable):
        return item
    if isinstance(item, str):
        return nnx.variable_type_from_name(item, allow_register=True)
    raise TypeError(
        f"sum_collections holds {item!r}; it must hold types of nnx.Variable or their names."
    )
