"""Modules that are trees are taken apart as trees, all others as graphs; no answer tells which."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax_cases import assert_close, data

from tdjax.layers.nnx_nodes import Graph, Tree, take_apart
from tdjax.nnx import TimeDistributed

FEATURES = 3
X = data(2, 4, FEATURES)


class Line(nnx.Module):
    """A tree."""

    def __init__(self):
        self.weight = nnx.Param(jnp.arange(1.0, FEATURES + 1))
        self.bias = nnx.Param({"one": jnp.ones(()), "two": jnp.ones(FEATURES)})
        self.scale = 1

    def __call__(self, x):
        bias = self.bias.get_value()
        return (x * self.weight.get_value() + bias["one"] + bias["two"]) * self.scale


class Shared(nnx.Module):
    """Holds a module twice."""

    def __init__(self):
        self.first = Line()
        self.second = self.first

    def __call__(self, x):
        return self.second(self.first(x))


class SharedVariable(nnx.Module):
    """Writes a variable under one name, and reads it under another."""

    def __init__(self):
        self.seen = nnx.Variable(jnp.zeros(()))
        self.known = self.seen

    def __call__(self, x):
        self.seen[...] = jnp.full((), 3.0)
        return x + self.known[...]


class Circle(nnx.Module):
    """Holds itself."""

    def __init__(self):
        self.line = Line()
        self.parent = nnx.data(self)

    def __call__(self, x):
        return self.parent.line(x)


class NoTree(nnx.Module, pytree=False):
    """Is none to JAX."""

    def __init__(self):
        self.line = Line()

    def __call__(self, x):
        return self.line(x)


class OnHost(nnx.Module):
    """Holds an array of NumPy."""

    def __init__(self):
        self.line, self.table = Line(), np.ones(FEATURES, np.float32)

    def __call__(self, x):
        return self.line(x) + self.table


CASES = {
    Line: Tree,
    Shared: Graph,
    SharedVariable: Graph,
    Circle: Graph,
    NoTree: Graph,
    OnHost: Graph,
}


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_answers_are_those_of_the_loop(kind):
    layer = kind()
    assert type(take_apart({"layer": layer})) is CASES[kind]
    expected = jnp.stack([layer(X[:, t]) for t in range(X.shape[1])], axis=1)
    for strategy in ("vmap", "fold", "auto"):
        assert_close(TimeDistributed(kind(), strategy=strategy)(X), expected)


def test_what_changes_between_calls_is_seen():
    layer = Line()
    wrapper, before = TimeDistributed(layer, strategy="fold"), layer(X)
    assert_close(wrapper(X), before)
    layer.scale = 2.0  # equal keys of structures do not mean that attributes are alike
    assert_close(wrapper(X), 2 * before)
    layer.scale = True
    assert_close(wrapper(X), before)
    layer.weight[...] = layer.weight[...] * 2
    assert_close(wrapper(X), layer(X))
    layer.more = Line()
    assert_close(wrapper(X), layer(X))


def test_what_is_written_or_made_is_found():
    known = dict(zip("ab", jax.random.normal(jax.random.key(0), (2, FEATURES)), strict=True))

    class Two(nnx.Module):
        def __init__(self):
            self.a, self.b = nnx.Param(known["a"]), nnx.Param(known["b"])

    apart = take_apart({"layer": Two()})
    assert [place.name for place in apart.places] == ["a", "b"]
    nodes = apart.together(known)
    assert apart.still_holds(nodes, known)
    nodes["layer"].a[...] = known["a"] + 1
    assert not apart.still_holds(nodes, known)
    nodes = apart.together(known)
    nodes["layer"].c = nnx.Intermediate(known["a"])
    assert not apart.still_holds(nodes, known)


def test_attributes_that_cannot_be_compared_make_a_graph():
    class Odd:
        def __eq__(self, other):
            raise TypeError("cannot be compared")

        def __hash__(self):
            return 0

    class Holding(nnx.Module):
        def __init__(self):
            self.line, self.odd = Line(), Odd()

        def __call__(self, x):
            return self.line(x)

    layer = Holding()
    for _ in range(2):
        assert_close(TimeDistributed(layer)(X), layer(X))
    assert_close(TimeDistributed(Holding())(X), layer(X))
