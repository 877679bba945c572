"""The small programs that tell a machine's speeds, one for each that is the machine's own.

A probe is a step with its sizes, run under one strategy. The speed that it is for is the one under
which the prediction of its time is what the clock says, all others being as they are: so that what
is calibrated means exactly what predictions make of it. What a speed is stands with
`tdjax.costs.machine.Machine`.

A program in the near cache is over before its call is, and one of elementwise products waits for
its memory: these speeds are as far above the one of the far cache as they were fitted to be. Others
without a program stay as they were fitted: how often something is read or written, what a
turn of a loop takes beside that, and what tiles save in a gradient. These make up for what
predictions leave out of whole models, and no small program tells them. Solved for all the same,
they took once the most and once the least that was allowed, on one machine, and the speeds beside
them made up for that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tdjax.core.call import trace
from tdjax.costs.blocks import Blocks
from tdjax.costs.machine import Machine
from tdjax.costs.predict import forward_s, gradient_s, seconds_in
from tdjax.costs.reading import work_of
from tdjax.costs.work import Work
from tdjax.strategies import Fold, Strategy
from tdjax.transform import time_distributed

_Step = Callable[[Any, Any], Any]
_WHOLE = Fold()


@dataclasses.dataclass(frozen=True)
class Probe:
    """A small program, whose time depends on one speed above all.

    Attributes:
        speed: the name of the speed.
        step: a function of one parameter and a step.
        shapes: of the parameter, and of all steps.
        strategy: how it runs.
        mode: "forward", or "grad" for forward and gradient.
        under: speeds under which convolutions have the form that is measured.
    """

    speed: str
    step: _Step
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    strategy: Strategy = _WHOLE
    mode: str = "forward"
    under: tuple[tuple[str, float], ...] = ()

    def arguments(self) -> tuple[Any, ...]:
        """Return a parameter and steps, random ones."""
        random = np.random.default_rng(0)
        weights, steps = (random.standard_normal(s, np.float32) for s in self.shapes)
        scale = max(1, weights[..., 0].size) ** -0.5
        return jnp.asarray(scale * weights), jnp.asarray(steps)

    def run(self, *arguments: Any) -> Any:
        """Run it; under `jax.jit`."""
        step = time_distributed(self.step, in_axes=(None, 1), strategy=self.strategy)
        if self.mode == "forward":
            return step(*arguments)
        output, pullback = jax.vjp(step, *arguments)
        return output, pullback(output)

    def on(self, machine: Machine) -> Machine:
        """Return the machine with speeds under which the form is taken that is measured."""
        given: dict[str, Any] = dict(self.under)
        return dataclasses.replace(machine, **given)

    def cost(self) -> ProbeCost:
        """Return what its time is predicted from; nothing runs."""
        wrapped = time_distributed(self.step, in_axes=(None, 1))
        found: list[ProbeCost] = []

        def look(*arguments: Any) -> int:
            call = wrapped.bind(arguments, {}, None, None)
            work = work_of(trace(call, call.batch).jaxpr, call.batch, call.has_rows())
            blocks = self.strategy.blocks(call.batch, call.time)
            assert blocks is not None
            found.append(ProbeCost(blocks, work, self))
            return 0

        jax.eval_shape(look, *(jax.ShapeDtypeStruct(s, jnp.float32) for s in self.shapes))
        return found[0]


@dataclasses.dataclass(frozen=True)
class ProbeCost:
    """What the time of a probe's program is predicted from."""

    blocks: Blocks
    work: Work
    probe: Probe

    def seconds(self, machine: Machine) -> float:
        """Return its predicted time."""
        given = self.blocks, self.work, self.probe.on(machine)
        return seconds_in(self.probe.mode, forward_s(*given), gradient_s(*given))


def _product(kernel: Any, x: Any) -> Any:
    return x @ kernel


def _products(kernel: Any, x: Any) -> Any:
    for _ in range(16):
        x = x @ kernel
    return x


def _attended(scale: Any, x: Any) -> Any:
    for _ in range(2):
        x = lax.batch_matmul(lax.batch_matmul(x, x.swapaxes(-1, -2)) * scale, x)
    return x


def _transcendentals(scale: Any, x: Any) -> Any:
    for _ in range(4):
        x = jnp.tanh(x * scale)
    return x


def _scaled(scale: Any, x: Any) -> Any:
    return x * scale


def _widened(kernel: Any, x: Any) -> Any:
    return (x @ kernel) @ kernel.T


def _convolutions(kernel: Any, x: Any) -> Any:
    groups = x.shape[-1] // kernel.shape[-2]
    for _ in range(2):
        x = lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=_NUMBERS, feature_group_count=groups
        )
        x = jnp.maximum(x, 0)
    return x


def _images(kernel: Any, x: Any) -> Any:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_NUMBERS)


def _pooled(scale: Any, x: Any) -> Any:
    window = (1, 2, 2, 1)
    return lax.reduce_window(x * scale, -jnp.inf, lax.max, window, window, "VALID")


_NUMBERS = ("NHWC", "HWIO", "NHWC")
_CHANNELS = (3, 3, 1, 64), (2, 4, 32, 32, 64)
_CONVOLUTIONS = (3, 3, 64, 64), (2, 4, 28, 28, 64)
_TILED = ("narrow_conv", math.inf), ("apart_conv", math.inf)
_UNTILED = (("tiled_conv", math.inf),)
PROBES = (
    Probe("dot_flops_s", _product, ((1024, 1024), (16, 32, 1024))),
    Probe("batched_product", _attended, ((196,), (2, 8, 196, 64))),
    Probe("transcendentals_s", _transcendentals, ((512,), (32, 32, 512))),
    Probe("far_bytes_s", _scaled, ((512,), (16, 64, 512))),
    Probe("memory_bytes_s", _scaled, ((512,), (128, 96, 512))),
    Probe("operation_s", _products, ((8, 8), (2, 2, 8))),
    Probe("fresh_bytes_s", _widened, ((64, 1024), (128, 128, 64))),
    Probe("naive_flops_s", _convolutions, _CHANNELS),
    Probe("conv_flops_s", _convolutions, ((3, 3, 128, 128), (1, 4, 28, 28, 128))),
    Probe("pooled_values_s", _pooled, ((16,), (2, 8, 32, 32, 16)), _WHOLE, "grad"),
    Probe("packed_values_s", _images, ((3, 3, 3, 16), (2, 8, 32, 32, 3))),
    Probe("narrow_conv", _convolutions, _CONVOLUTIONS),
    Probe(
        "apart_conv", _convolutions, _CONVOLUTIONS, Fold(chunk_size=8),
        under=(("narrow_conv", math.inf), *_UNTILED),
    ),
    Probe("tiled_conv", _convolutions, _CONVOLUTIONS, Fold(chunk_size=8), under=_TILED),
    Probe("plain_product", _convolutions, ((1, 1, 64, 64), (2, 16, 28, 28, 64))),
    Probe(
        "back_conv", _convolutions, _CONVOLUTIONS, Fold(chunk_size=8), "grad",
        (("back_conv_2d", math.inf), *_UNTILED),
    ),
    Probe(
        "back_conv_2d", _convolutions, _CONVOLUTIONS, Fold(chunk_size=8), "grad",
        (("back_conv", math.inf), *_UNTILED),
    ),
    Probe("plain_conv", _convolutions, _CONVOLUTIONS, _WHOLE, "grad"),
)  # fmt: skip
