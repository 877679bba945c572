"""A step program as data: arguments, constants and nodes, each a line of Python code."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*")

PREAMBLE = """\
import functools

import jax
import jax.ad_checkpoint
import jax.extend.core.primitives
import jax.numpy as jnp
import numpy as np

import tdjax
import tdjax.core.jaxpr

jax.config.update("jax_enable_x64", True)
"""

DATA = """\
def array(seed, *shape, dtype=float, below=0):
    rng = np.random.default_rng(seed)
    if dtype is bool:
        return rng.normal(size=shape) > 0
    if dtype is int:
        return rng.integers(0, below, shape)
    values = rng.normal(size=shape)
    return values + 1j * rng.normal(size=shape) if dtype is complex else values


def keys(seed, *shape, impl="threefry2x32"):
    key = jax.random.key(seed, impl=impl)
    return jax.random.split(key, shape) if shape else key


def with_vjp(fun, forward, backward):
    rule = jax.custom_vjp(fun)
    rule.defvjp(forward, backward)
    return rule


def with_jvp(fun, derivative):
    rule = jax.custom_jvp(fun)
    rule.defjvp(derivative)
    return rule


def closed_call(fun, x):
    called = jax.make_jaxpr(fun)(x)
    primitive = jax.extend.core.primitives.closed_call_p
    eqn = called.eqns[0].replace(primitive=primitive, params={"call_jaxpr": called})
    return tdjax.core.jaxpr.bind(eqn, [x])[0]
"""


@dataclasses.dataclass(frozen=True)
class Array:
    """An argument or a constant.

    Attributes:
        name: of the variable.
        shape: of the whole array, time included.
        axis: where time is; None: shared by all steps.
        kind: "float", "int", "bool", "complex" or "key".
        seed: of its values.
        below: of whole numbers, the first that is too large.
        impl: of keys, the generator.
        rows: whether a step sees the batch as its leading axis.
    """

    name: str
    shape: tuple[int, ...]
    axis: int | None = None
    kind: str = "float"
    seed: int = 0
    below: int = 3
    impl: str = "threefry2x32"
    rows: bool = False

    def code(self) -> str:
        """Return the expression that makes it."""
        shape = ", ".join(map(str, (self.seed, *self.shape)))
        if self.kind == "key":
            return f"keys({shape}, impl={self.impl!r})"
        below = f", below={self.below}" if self.kind == "int" else ""
        return f"array({shape}, dtype={self.kind}{below})"


@dataclasses.dataclass(frozen=True)
class Function:
    """A function that a node defines: its parameters, its nodes and what it returns.

    If it is `closed`, it reads nothing but its parameters and constants.
    """

    name: str
    params: str
    nodes: tuple[Node, ...]
    result: str
    decorator: str = ""
    closed: bool = False

    def code(self) -> str:
        """Return its definition."""
        body = "\n".join([*(node.code() for node in self.nodes), f"return {self.result}"])
        head = f"{self.decorator}\n" if self.decorator else ""
        return f"{head}def {self.name}({self.params}):\n{textwrap.indent(body, '    ')}"

    def uses(self) -> set[str]:
        """Return the names that it reads."""
        return names(self.result).union(*(node.uses() for node in self.nodes))


@dataclasses.dataclass(frozen=True)
class Node:
    """One line: a variable, and the expression that is its value.

    Attributes:
        target: the variable.
        expression: the code.
        functions: what it defines, before its line.
        types: the types of its value for the small and the large batch; None for a function.
        primitive: whose builder made it.
    """

    target: str
    expression: str
    functions: tuple[Function, ...] = ()
    types: Any = None
    primitive: str = ""

    def code(self) -> str:
        """Return its code."""
        defined = [function.code() for function in self.functions]
        return "\n".join([*defined, f"{self.target} = {self.expression}"])

    def uses(self) -> set[str]:
        """Return the names that it reads."""
        return names(self.expression).union(*(function.uses() for function in self.functions))


@dataclasses.dataclass(frozen=True)
class Program:
    """A step function, and what it is called with.

    Attributes:
        batch: rows of a step.
        time: steps.
        arrays: its arguments.
        consts: what it closes over.
        nodes: its lines.
        outputs: the variables that it returns, with their types.
        seed: what it was generated from.
    """

    batch: int
    time: int
    arrays: tuple[Array, ...]
    consts: tuple[Array, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    seed: Any = None

    def step_code(self, outputs: tuple[str, ...] | None = None) -> str:
        """Return the definition of the step function."""
        params = ", ".join(array.name for array in self.arrays)
        result = "".join(f"{name}, " for name in (outputs or self.outputs))
        return Function("step", params, self.nodes, f"({result})").code()

    def types(self) -> dict[str, Any]:
        """Return the types of all variables of the step, small and large."""
        return {node.target: node.types for node in self.nodes if node.types is not None}

    def in_axes(self) -> tuple[int | None, ...]:
        """Return where time is in every argument."""
        return tuple(array.axis for array in self.arrays)

    def args(self, draw: int = 0) -> tuple[Any, ...]:
        """Return arguments; another draw, other values."""
        space = namespace()
        drawn = (dataclasses.replace(each, seed=each.seed + 1000 * draw) for each in self.arrays)
        return tuple(eval(each.code(), space) for each in drawn)

    def step(self, outputs: tuple[str, ...] | None = None) -> Any:
        """Return the step function, made anew."""
        space = namespace()
        for const in self.consts:
            space[const.name] = eval(const.code(), space)
        exec(compile(self.step_code(outputs), "<program>", "exec"), space)
        return space["step"]

    def live(self) -> Program:
        """Return the program without what its outputs do not need."""
        needed, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if node.target in needed or any(f.name in needed for f in node.functions):
                needed |= node.uses()
                kept.append(node)
        arrays = tuple(each for each in self.arrays if each.name in needed)
        if not any(each.rows and each.kind != "key" for each in arrays):
            first = [each for each in self.arrays if each.rows and each.kind != "key"][:1]
            arrays = tuple(each for each in self.arrays if each in arrays or each in first)
        consts = tuple(each for each in self.consts if each.name in needed)
        return dataclasses.replace(self, arrays=arrays, consts=consts, nodes=tuple(kept[::-1]))

    def all_nodes(self) -> Iterator[Node]:
        """Yield all nodes, those of functions included."""
        yield from _all_nodes(self.nodes)

    def __len__(self) -> int:
        return sum(1 for _ in self.all_nodes())


def _all_nodes(nodes: tuple[Node, ...]) -> Iterator[Node]:
    for node in nodes:
        yield node
        for function in node.functions:
            yield from _all_nodes(function.nodes)


def names(code: str) -> set[str]:
    """Return the names in an expression, attributes left out."""
    return set(_NAME.findall(code))


def renamed(code: str, old: str, new: str) -> str:
    """Return code with one name in the place of another."""
    return re.sub(rf"(?<![\w.]){re.escape(old)}\b", new.replace("\\", r"\\"), code)


def namespace() -> dict[str, Any]:
    """Return what the code of programs can name."""
    import functools

    import jax
    import jax.ad_checkpoint
    import jax.extend.core.primitives
    import jax.numpy as jnp

    import tdjax
    import tdjax.core.jaxpr

    space: dict[str, Any] = {
        "functools": functools, "jax": jax, "jnp": jnp, "np": np, "tdjax": tdjax,
    }  # fmt: skip
    exec(DATA, space)
    return space
