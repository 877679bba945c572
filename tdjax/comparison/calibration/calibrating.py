"""`calibrate`: measure this machine's speeds and keep them."""

from __future__ import annotations

import datetime
import os
import warnings
from collections.abc import Iterable, Mapping

import jax

from tdjax.comparison.calibration.clock import TimedProgram, Times, measured
from tdjax.comparison.calibration.probes import PROBES, Probe
from tdjax.comparison.calibration.solving import relative, solve
from tdjax.comparison.system.memory import settle_allocator
from tdjax.comparison.system.progress import Progress, told
from tdjax.core.kept_file import jax_versions
from tdjax.costs.machine import assume_machine, calibrated_from, current_machine
from tdjax.devices import calibration
from tdjax.devices.attached import device_kind
from tdjax.devices.calibration import Calibration
from tdjax.devices.shipped import SPEEDS

_PLATFORMS = ("cpu", "gpu", "tpu")
# Two free cores of a Zen 4 had 1.13 to 1.25, those with a comparison at work beside 1.26 to 1.52,
# and caches that looked half as fast.
_BUSY = 1.25
# What is not told apart on an accelerator: there are no cores to leave idle, no caches that a
# block is sized for, and no memory of the system's.
_OF_CPUS = (
    "plain_product",
    "batched_product",
    "channel_flops_s",
    "naive_flops_s",
    "pooled_values_s",
    "packed_values_s",
    "narrow_conv",
    "apart_conv",
    "tiled_conv",
    "back_conv_2d",
    "tiled_back",
    "plain_conv",
    "near_bytes_s",
    "far_bytes_s",
    "fresh_bytes_s",
)


def calibrate(progress: Progress | bool | None = None) -> Calibration:
    """Measure the speeds of this machine, from which `auto` predicts how long strategies take.

    Takes at most half a minute on two cores that are free; it says so where they are not. What was
    measured is kept in the cache folder (`TDJAX_CACHE_DIR`) for this device and these versions of
    jax and jaxlib, and `auto` uses it from then on, in this process and in others. `tdjax.compare`
    and `tdjax.tune` do this first where it was never done, unless they are told not to
    (`calibrate=False`, or `TDJAX_CALIBRATE=never` in the environment).

    Args:
        progress: True shows how far it is on standard error; or an object with the methods
            `update(text, fraction)` and `log(text)`.

    Returns:
        A `Calibration`; its `.speeds` are those of `tdjax.costs.machine.Machine`.

    Raises:
        ValueError: JAX's default device is of a platform that nothing is known of.
    """
    platform = jax.default_backend()
    if platform not in _PLATFORMS:
        raise ValueError(
            f"calibrate: JAX's default device is {platform!r}, needed one of "
            f"{', '.join(map(repr, _PLATFORMS))}: choose one by JAX_PLATFORMS."
        )
    with told(progress) as shown:
        found, unrest = _calibrated(platform, shown)
        if unrest > _BUSY:
            shown.log(f"{_busy(unrest)}; calibrate again when it is free")
    _keep(found)
    return found


def _busy(unrest: float) -> str:
    return (
        f"this machine is busy with other work, and its speeds may be off (calls took {unrest:.2f} "
        f"times as long as the shortest, where {_BUSY} is usual at most)"
    )


def _keep(found: Calibration) -> None:
    try:
        calibration.keep(found)
    except OSError as error:
        warnings.warn(
            f"the calibration cannot be kept in {error.filename} ({error.strerror}), and is lost: "
            f"set TDJAX_CACHE_DIR to a folder that can be written.",
            stacklevel=2,
        )


def _calibrated(platform: str, progress: Progress) -> tuple[Calibration, float]:
    """Return what is measured, and how much other work disturbed that; see `Times`."""
    probes = [p for p in PROBES if platform == "cpu" or p.speed not in _OF_CPUS]
    times = _measured(probes, progress)
    taken = dict(zip([probe.speed for probe in probes], times.seconds, strict=True))
    start, probed = calibrated_from(platform)
    machine = solve(start, {probe.speed: probe.cost().seconds for probe in probes}, taken)
    names = [name for name in SPEEDS if platform == "cpu" or name not in _OF_CPUS]
    speeds = relative(machine.speeds, start.speeds, probed)
    found = Calibration(
        platform=platform,
        kind=device_kind(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        versions=jax_versions(),
        speeds=_rounded(speeds, names),
        probed=_rounded(machine.speeds, names),
    )
    return found, times.unrest


def _rounded(speeds: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    return {name: float(f"{speeds[name]:.4g}") for name in names}


def calibrate_first(progress: Progress) -> None:
    """Calibrate if that was never done on this machine with this version of JAX, and say so.

    Not where `TDJAX_CALIBRATE` is "never" in the environment, as in tests. Of a busy machine
    nothing is kept: nobody asked for that, or would think of it when it is free.
    """
    platform = jax.default_backend()
    if os.environ.get("TDJAX_CALIBRATE") == "never" or platform not in _PLATFORMS:
        return
    if calibration.find(device_kind()) is None:
        progress.log(
            "calibrating this machine once for this version of jax, so that auto predicts with its "
            "own speeds"
        )
        found, unrest = _calibrated(platform, progress)
        if unrest > _BUSY:
            progress.log(f"{_busy(unrest)}; the speeds that are shipped are taken this time")
        else:
            _keep(found)


def _measured(probes: Iterable[Probe], progress: Progress) -> Times:
    """Return how long each program takes."""
    settle_allocator()
    probes = [*probes]
    programs = []
    for index, probe in enumerate(probes):
        progress.update(f"calibrating: compiling for {probe.speed}", index / len(probes))
        with assume_machine(probe.on(current_machine())):
            programs.append(TimedProgram(probe.run, *probe.arguments()))
    progress.update("calibrating: measuring", 1.0)
    return measured(*programs)
