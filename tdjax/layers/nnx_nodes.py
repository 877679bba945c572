"""NNX modules taken apart into named arrays, and put together from others.

`nnx.split` walks through a graph, in which anything may be held in several places. Most modules are
trees, which JAX takes apart in a fraction of the time: outside of `jit` that is most of a call.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx

from tdjax.core.recent import Recent

Path = tuple[Any, ...]
Nodes = dict[str, Any]


class Location(NamedTuple):
    """Where an array is.

    Attributes:
        name: of the array, from the names of attributes on the way to it.
        kind: the type of the variable that holds it; of the array if none does.
    """

    name: str
    kind: type


class Graph:
    """Nodes in which anything may be held in several places.

    Attributes:
        places, arrays: what the nodes hold, and where.
    """

    def __init__(self, nodes: Nodes, summed: Callable[[Path, Any], bool] | None) -> None:
        self._graph, state = nnx.split(nodes)
        if any(_is_reference(held) for _, held in nnx.to_flat_state(state)):
            values = nnx.with_vars(nodes, ref=False, hijax=False, allow_duplicates=True)
            self._graph, state = nnx.split(values)
        if summed is not None:
            fresh = nnx.merge(self._graph, state)  # sums start from zero and are added later
            nnx.pop(fresh, summed)
            self._graph, state = nnx.split(fresh)
        self._entering = nnx.to_flat_state(state)
        self.places, self.arrays = _unzip(located(self._entering))

    def together(self, known: Mapping[str, Any]) -> Nodes:
        """Return nodes that hold other arrays, by name; those that are missing as they are."""
        entering = []
        for path, held in self._entering:
            named, tree = parts(path, raw(held))
            values = [known.get(name, leaf) for name, leaf in named]
            entering.append((path, replaced(held, jax.tree.unflatten(tree, values))))
        nodes: Nodes = nnx.merge(self._graph, nnx.from_flat_state(entering))
        return nodes

    def still_holds(self, nodes: Nodes, known: Mapping[str, Any]) -> bool:
        """Say whether nodes are known to hold what they were put together from, and no more."""
        return False


class Tree:
    """Nodes that hold arrays alone, each of them in one place; as `Graph`."""

    def __init__(self, tree: Any, places: Sequence[Location], arrays: Sequence[Any]) -> None:
        self._tree, self.places, self.arrays = tree, places, arrays

    def together(self, known: Mapping[str, Any]) -> Nodes:
        """Return nodes that hold other arrays, by name."""
        nodes: Nodes = jax.tree.unflatten(self._tree, [known[place.name] for place in self.places])
        return nodes

    def still_holds(self, nodes: Nodes, known: Mapping[str, Any]) -> bool:
        """Say whether nodes hold what they were put together from, and no more."""
        found, _ = _flatten(nodes)
        given = [known[place.name] for place in self.places]
        return len(found) == len(given) and all(map(operator.is_, found, given))


def take_apart(nodes: Nodes, summed: Callable[[Path, Any], bool] | None = None) -> Graph | Tree:
    """Return nodes taken apart.

    Args:
        nodes: modules and streams of randomness.
        summed: says which variables, that have been sown, are to be left out; None for none.
    """
    tree = None if summed is not None else _as_tree(nodes)
    return Graph(nodes, summed) if tree is None else tree


def _as_tree(nodes: Nodes) -> Tree | None:
    leaves, tree = _flatten(nodes)
    if len(set(map(id, leaves))) < len(leaves):
        return None
    if not all(isinstance(leaf, jax.Array) for leaf in leaves):
        return None
    try:
        places = _places.get(tree)
    except (TypeError, ValueError):  # attributes that cannot be hashed or compared
        return None
    if places is None:
        _, state = nnx.split(nodes)
        found = {id(leaf): place for place, leaf in located(nnx.to_flat_state(state))}
        if found.keys() != set(map(id, leaves)):
            return None
        places = _places.keep(tree, [found[id(leaf)] for leaf in leaves])
    return Tree(tree, places, leaves)


_places: Recent[list[Location]] = Recent(128)
"""Where the leaves of trees are: that follows from the types and the names of what holds them."""


def _flatten(nodes: Nodes) -> tuple[list[Any], Any]:
    """Return the leaves of nodes; what is met again, on a way in a circle for one, is a leaf."""
    met: set[int] = set()

    def is_met_again(node: Any) -> bool:
        number = id(node)
        if number in met:
            return node is not None
        met.add(number)
        return False

    return jax.tree.flatten(nodes, is_leaf=is_met_again)


def located(flat: Iterable[tuple[Path, Any]]) -> Iterator[tuple[Location, Any]]:
    """Yield the arrays of a flat state, each after its place."""
    for path, held in flat:
        for name, leaf in parts(path, raw(held))[0]:
            yield Location(name, type(held)), leaf


def _unzip(pairs: Iterable[tuple[Location, Any]]) -> tuple[list[Location], list[Any]]:
    known = list(pairs)
    return [place for place, _ in known], [array for _, array in known]


def _is_reference(held: Any) -> bool:
    """Say whether a variable is a mutable array of JAX itself, or a type of its own."""
    return isinstance(held, nnx.Variable) and (held.ref or held.hijax)


def raw(held: Any) -> Any:
    """Return what a variable holds, before its hooks; a module may hold bare arrays as well."""
    return held.get_raw_value() if isinstance(held, nnx.Variable) else held


def replaced(held: Any, value: Any) -> Any:
    """Return a variable with another value, of what is not one the value."""
    return held.replace(value) if isinstance(held, nnx.Variable) else value


def parts(path: Path, value: Any) -> tuple[list[tuple[str, Any]], Any]:
    """Return the arrays of a variable's value, which may be a pytree, with their names."""
    flat, tree = jax.tree_util.tree_flatten_with_path(value)
    root = "/".join(str(key) for key in path[1:] if path[0] == "layer") or "/".join(map(str, path))
    return [(root + jax.tree_util.keystr(inside), leaf) for inside, leaf in flat], tree
