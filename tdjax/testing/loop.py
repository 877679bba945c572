"""The plain Python loop over the steps of a call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.core.arrays import is_array, is_inexact
from tdjax.core.call import Call, trace
from tdjax.independence import Proof, Rows, prove
from tdjax.strategies.rows.padding import real_steps, zero
from tdjax.testing.answers import Answers, evaluate, largest, wide_numpy

_HALF = (jnp.float16, jnp.bfloat16)


@dataclasses.dataclass(frozen=True)
class PlainLoop:
    """The loop over the steps of a call.

    Attributes:
        call: the call.
        proof: whether its rows are independent, and where outputs have them.
        real: bool `(batch, time)` where masked steps give zero, else None.
        avals: what one step returns.
        axes: where time goes in each output.
    """

    call: Call
    proof: Proof
    real: np.ndarray | None
    avals: tuple[Any, ...]
    axes: tuple[int | None, ...]

    @staticmethod
    def of(call: Call) -> PlainLoop:
        zeroed = call.mask is not None and call.masked_output == "zero"
        if zeroed and isinstance(call.mask, jax.core.Tracer):
            raise TypeError("tdjax.testing needs a mask whose values are known, not a traced one.")
        program = trace(call, call.batch)
        real = np.asarray(real_steps(call.mask)) if zeroed else None
        return PlainLoop(
            call,
            proof_of(call),
            real,
            tuple(program.out_avals),
            tuple(program.out_axes(call)),
        )

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """Return the outputs of all steps, stacked."""
        steps, tree = [], None
        for step in range(self.call.time):
            output, tree = self._step(leaves, step)
            steps.append(output)
        stacked = [
            parts[0] if axis is None else jnp.stack([jnp.asarray(part) for part in parts], axis)
            for parts, axis in zip(zip(*steps, strict=True), self.axes, strict=True)
        ]
        if self.real is not None:
            stacked = [
                zero(value, axis, self.rows_of(place), jnp.asarray(self.real))
                for place, (value, axis) in enumerate(zip(stacked, self.axes, strict=True))
            ]
        return jax.tree.unflatten(tree, stacked)

    def rows_of(self, place: int) -> Rows | None:
        """Return where an output of one step has its rows: as proven, else leading."""
        return rows_of(self.call, self.proof, place, self.avals[place])

    def _step(self, leaves: Sequence[Any], step: int) -> tuple[list[Any], Any]:
        given = [
            leaf if axis is None else jax.lax.index_in_dim(leaf, step, axis, keepdims=False)
            for leaf, axis in zip(map(as_jax_array, leaves), self.call.axes, strict=True)
        ]
        real = None if self.real is None else self.real[:, step]
        if real is not None and not real.any():
            given = jax.lax.stop_gradient(given)  # nothing of such a step is left
        if real is not None and self.proof.independent:
            given = [
                _filled(value, real) if role in ("rows", "spread") else value
                for value, role in zip(given, self.proof.roles, strict=True)
            ]
        return jax.tree.flatten(self.call.step(given))


def _filled(value: Any, real: np.ndarray) -> Any:
    """Return rows of a step with a real one in the place of those that a mask takes away."""
    copy = value[int(np.argmax(real))][None]
    copy = jax.lax.stop_gradient(copy) if is_inexact(value) else copy
    return jnp.where(real.reshape([-1] + [1] * (value.ndim - 1)), value, copy)


def as_jax_array(leaf: Any) -> Any:
    """Return a NumPy array as one of JAX, anything else as it is."""
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf


def proof_of(call: Call) -> Proof:
    """Return whether rows are independent, for any number of rows in a block."""
    if call.batch is None:
        return Proof(False, "no argument has both time and batch", call.roles)
    return prove(call, 2 * call.batch + 1).proof


def rows_of(call: Call, proof: Proof, place: int, aval: Any) -> Rows | None:
    """Return where the rows of an output are: as proven, else by its leading size."""
    if proof.independent:
        kind = proof.outputs[place]
        return kind if isinstance(kind, Rows) else None
    return Rows(0) if aval.shape and aval.shape[0] == call.batch else None


def run_loop(loop: PlainLoop, gradients: bool) -> tuple[Answers, list[float] | None]:
    """Return what the loop gives, and in half precision how far it is from a loop in float32."""
    leaves = loop.call.leaves
    found = evaluate(loop, leaves, gradients)
    half = [is_array(leaf) and leaf.dtype in _HALF for leaf in leaves]
    if not any(half):
        return found, None
    wide = [
        leaf.astype(jnp.float32) if yes else leaf for leaf, yes in zip(leaves, half, strict=True)
    ]
    try:
        exact = evaluate(loop, wide, gradients)
    except Exception:  # the function takes nothing wider
        return found, None
    pairs = zip(found.leaves, exact.leaves, strict=True)
    noise = [largest(np.abs(wide_numpy(one) - wide_numpy(two))) for one, two in pairs]
    return dataclasses.replace(exact, like=found.leaves), noise
