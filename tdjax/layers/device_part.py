"""One device's part of a call of a layer: which steps and rows it has, and what it shares."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.partition import Noise, Placement
from tdjax.strategies.rows.padding import RealRow, first_real


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Where a device's part lies.

    Attributes:
        where: the mesh, and the axes of it that batch and time are spread over.
        noise: the noise that has rows, of which it draws its own; None for none.
        mixing: why rows are not known to be independent, batch statistics aside; empty if they are.
    """

    where: Placement
    noise: Noise | None = None
    mixing: str = ""

    def first_step(self, time: Any) -> Any:
        """Return the number of its first step, of `time` that it has."""
        return jax.lax.axis_index(self.where.time) * time if self.where.time else 0

    def keys(self, keys: dict[str, Any]) -> dict[str, Any]:
        """Return keys of steps that give its rows their part of the noise."""
        if self.noise is None:
            return keys
        number = jax.lax.axis_index(self.where.batch)
        return {name: self.noise.keys(key, number) for name, key in keys.items()}

    def averaged(self, each: bool) -> tuple[str, ...]:
        """Return the mesh axes that statistics run over: of each step, or of all."""
        return self.where.batch if each else self.where.names

    def summed(self, value: Any) -> Any:
        """Return the sum over the steps of all devices."""
        return jax.lax.psum(value, self.where.time) if self.where.time else value

    def first_real(self, real: Any) -> RealRow:
        """Return the first real row of all devices, where it lies in `real`, `(rows, steps)`."""
        here = first_real(real)
        rows, steps = real.shape
        row = here.row + (jax.lax.axis_index(self.where.batch) * rows if self.where.batch else 0)
        step = here.step + self.first_step(steps)
        time = steps * self.where.time_blocks
        total = rows * self.where.batch_blocks * time
        place = row * time + step + jnp.where(here.exists, 0, total)
        first = jax.lax.pmin(place, self.where.names)

        def given(copy: Any) -> Any:
            if jnp.issubdtype(copy.dtype, jax.dtypes.extended):
                return copy
            chosen = jnp.where(place == first, copy, jnp.zeros_like(copy))
            return jax.lax.psum(chosen, self.where.names).astype(copy.dtype)

        steps_real = self.anywhere(here.steps, self.where.batch)
        return RealRow(here.row, here.step, first < total, steps_real, given)

    def anywhere(self, flags: Any, names: tuple[str, ...]) -> Any:
        """Say whether a flag is set on any device along these mesh axes."""
        return jax.lax.psum(flags.astype(jnp.int32), names) > 0 if names else flags
