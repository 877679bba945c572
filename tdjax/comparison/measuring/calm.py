"""Waiting while other work slows the cores.

Cores of a virtual machine are often shared. On one with two of them (an AMD EPYC, Zen 4) products
of matrices took 1.4 times as long for seconds at a time, and loops over blocks that fit the caches
2.4 times, while programs that wait for memory took what they always do, and the system's own
counters told nothing. A small product, timed before a sample, does.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

# Of one product, undisturbed, nine in ten times lay within 1.1 of the shortest.
_SLOW = 1.25
_LOOK_EVERY_S = 0.25
_PAUSE_S = 0.1
_TURNS = 3


class Calm:
    """Knows how long a small program takes at best, and waits while it takes longer.

    Args:
        probe: runs the program, and returns its seconds.
        sleep: waits for so many seconds.
    """

    def __init__(
        self, probe: Callable[[], float], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._probe = probe
        self._sleep = sleep
        self._least_s = probe()
        self._looked_at = -_LOOK_EVERY_S

    def wait(self, most_s: float) -> float:
        """Wait until the cores are as fast as ever, for so many seconds at most; return how long.

        Nothing is done where the last look was a moment ago.
        """
        start = time.perf_counter()
        if most_s <= 0 or start - self._looked_at < _LOOK_EVERY_S:
            return 0.0
        waited = 0.0
        while self._is_slow() and waited < most_s:
            self._sleep(_PAUSE_S)
            waited += _PAUSE_S
        self._looked_at = time.perf_counter()
        return waited

    def _is_slow(self) -> bool:
        seconds = self._probe()
        self._least_s = min(self._least_s, seconds)
        return seconds > _SLOW * self._least_s


@functools.cache
def calm_of_cpu() -> Calm:
    """Return what waits for this machine's cores, in this process."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        x, weights = jnp.ones((2048, 256)), jnp.full((256, 256), 0.01)

        def products(x: jax.Array, weights: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, _TURNS, lambda _, x: jnp.tanh(x @ weights), x)

        program = jax.jit(products).lower(x, weights).compile()

    def probe() -> float:
        start = time.perf_counter()
        jax.block_until_ready(program(x, weights))
        return time.perf_counter() - start

    for _ in range(_TURNS):
        probe()
    return Calm(probe)
