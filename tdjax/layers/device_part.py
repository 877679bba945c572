"""One device's part of a call of a layer: its steps and rows, and what it shares with others."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tdjax.partition.noise import Noise
from tdjax.partition.placement import Placement
from tdjax.strategies.rows.padding import RealRow, first_real


@dataclasses.dataclass(frozen=True, eq=False)
class DevicePart:
    """What a device has to know about its part.

    Attributes:
        where: the mesh, and the axes of it that batch and time are spread over.
        noise: the noise that has rows; None for none.
        mixing: why rows, batch statistics aside, are not known to be independent; else empty.
    """

    where: Placement
    noise: Noise | None = None
    mixing: str = ""

    def first_step(self, time: Any) -> Any:
        """Return the number of the first of its `time` steps."""
        return jax.lax.axis_index(self.where.time) * time if self.where.time else 0

    def keys_of_rows(self, keys: dict[str, Any]) -> dict[str, Any]:
        """Return keys of steps that give its rows their part of the noise."""
        if self.noise is None:
            return keys
        number = jax.lax.axis_index(self.where.batch)
        return {name: self.noise.keys_of_block(key, number) for name, key in keys.items()}

    def averaged_axes(self, each: bool) -> tuple[str, ...]:
        """Return the mesh axes that statistics are averaged over: of each step, or of all steps."""
        return self.where.batch if each else self.where.names

    def sum_over_steps(self, value: Any) -> Any:
        """Return the sum of a device's sum over the devices that hold other steps."""
        return jax.lax.psum(value, self.where.time) if self.where.time else value

    def first_real(self, real: Any) -> RealRow:
        """Return the first real row of all devices, from this device's `real`, `(rows, steps)`."""
        here = first_real(real)
        rows, steps = real.shape
        row = here.row + (jax.lax.axis_index(self.where.batch) * rows if self.where.batch else 0)
        step = here.step + self.first_step(steps)
        time = steps * self.where.time_blocks
        total = rows * self.where.batch_blocks * time
        position = row * time + step + jnp.where(here.exists, 0, total)
        first = jax.lax.pmin(position, self.where.names)

        def share(copy: Any) -> Any:
            """Return the copy of the device that has the first real row."""
            if jnp.issubdtype(copy.dtype, jax.dtypes.extended):
                return copy
            chosen = jnp.where(position == first, copy, jnp.zeros_like(copy))
            return jax.lax.psum(chosen, self.where.names).astype(copy.dtype)

        steps_real = self.anywhere(here.steps, self.where.batch)
        return RealRow(here.row, here.step, first < total, steps_real, share)

    def anywhere(self, flags: Any, names: tuple[str, ...]) -> Any:
        """Say whether a flag is set on any device along these mesh axes."""
        return jax.lax.psum(flags.astype(jnp.int32), names) > 0 if names else flags
