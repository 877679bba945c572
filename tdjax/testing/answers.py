"""Outputs and gradients of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.core.arrays import is_inexact, words_of


@dataclasses.dataclass(frozen=True)
class Answers:
    """Outputs and gradients.

    Attributes:
        tree: the structure of the outputs.
        outputs: the leaves of the outputs, with their paths.
        gradients: the gradients of the inexact leaves of the arguments, in their order.
        like: arrays of the shapes and dtypes that are demanded; None for its own.
    """

    tree: Any
    outputs: list[Any]
    gradients: list[Any]
    paths: list[str]
    like: list[Any] | None = None

    @property
    def leaves(self) -> list[Any]:
        return [*self.outputs, *self.gradients]


def evaluate(run: Any, leaves: Sequence[Any], gradients: bool) -> Answers:
    """Return what `run(leaves)` gives, and its gradients for fixed random cotangents."""
    places = [i for i, leaf in enumerate(leaves) if is_inexact(leaf)]

    def everything(leaves: list[Any]) -> tuple[Any, list[Any]]:
        def chosen(*parts: Any) -> tuple[list[Any], Any]:
            merged = list(leaves)
            for place, part in zip(places, parts, strict=True):
                merged[place] = part
            output = jax.tree.map(jnp.asarray, run(merged))
            return [y for y in jax.tree.leaves(output) if is_inexact(y)], output

        if not gradients or not places:
            return chosen(*(leaves[place] for place in places))[1], []
        smooth, pull, output = jax.vjp(chosen, *(leaves[place] for place in places), has_aux=True)
        random = np.random.default_rng(0)
        return output, list(pull([cotangent(random, y) for y in smooth])) if smooth else []

    output, found = jax.jit(everything)(list(leaves))
    flat = jax.tree_util.tree_leaves_with_path(output)
    paths = [jax.tree_util.keystr(path) for path, _ in flat]
    return Answers(jax.tree.structure(output), [leaf for _, leaf in flat], found, paths)


def cotangent(random: np.random.Generator, output: Any) -> Any:
    """Return random numbers of an output's shape and dtype."""
    value = random.normal(size=output.shape)
    if jnp.issubdtype(output.dtype, jnp.complexfloating):
        value = value + 1j * random.normal(size=output.shape)
    return jnp.asarray(value, output.dtype)


def largest(values: np.ndarray) -> float:
    """Return the largest finite value, 0 if there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else 0.0


def wide_numpy(leaf: Any) -> np.ndarray:
    """Return an array as NumPy can compare it."""
    leaf = words_of(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.asarray(leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), np.float64)
    return np.asarray(leaf)
