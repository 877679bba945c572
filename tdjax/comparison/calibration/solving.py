"""From the times of programs to the speeds under which they are predicted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tdjax.costs.machine import Machine

_TURNS = 12
_HALVINGS = 40
_MOST_APART = 30.0
_FAR = "far_bytes_s"
_FOLLOWING = "near_bytes_s", "channel_flops_s"


def solve(
    start: Machine,
    predictions: Mapping[str, Callable[[Machine], float]],
    seconds: Mapping[str, float],
) -> Machine:
    """Return the machine under which each program is predicted to take the time that it took.

    Speeds are found one after the other, each from its own program, and again until they fit each
    other; those that follow the far cache's go with it. Where no speed fits, because others account
    for more than the time that there is, it is the nearest to that within a factor of 30 of where
    it began.
    """
    machine = start
    for _ in range(_TURNS):
        for name, predict in predictions.items():
            machine = _with(machine, name, _solved(machine, start, name, predict, seconds[name]))
        far = max(machine.far_bytes_s, machine.memory_bytes_s)  # a nearer cache is not slower
        machine = _with(machine, _FAR, far)
        for name in _FOLLOWING:
            began: float = getattr(start, name)
            machine = _with(machine, name, began * far / start.far_bytes_s)
    return machine


def bounds(start: Machine, name: str) -> tuple[float, float]:
    """Return the least and the most that a speed is found to be."""
    began: float = getattr(start, name)
    return began / _MOST_APART, began * _MOST_APART


def relative(
    found: Mapping[str, float], fitted: Mapping[str, float], probed: Mapping[str, float]
) -> dict[str, float]:
    """Return speeds that are to what was fitted as what the programs say here is to what they said.

    A small program tells how much faster this machine is than another. It does not tell what a
    model of costs that leaves much out has to take for a speed, to be right of whole models: that
    is fitted to many of them, once, on the machine whose small programs gave `probed`.

    Args:
        found: what the programs say of this machine.
        fitted: the speeds of the other machine.
        probed: what they said there; what is missing is taken as found.
    """
    return {
        name: fitted[name] * speed / probed[name] if name in probed else speed
        for name, speed in found.items()
    }


def _solved(
    machine: Machine, start: Machine, name: str, predict: Callable[[Machine], float], wanted: float
) -> float:
    low, high = bounds(start, name)
    rises = predict(_with(machine, name, high)) > predict(_with(machine, name, low))
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        if (predict(_with(machine, name, middle)) < wanted) == rises:
            low = middle
        else:
            high = middle
    return (low * high) ** 0.5


def _with(machine: Machine, name: str, speed: float) -> Machine:
    given: dict[str, Any] = {name: speed}
    return dataclasses.replace(machine, **given)
