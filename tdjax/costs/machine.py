"""What a device can do: the few figures that costs are predicted from.

A CPU's caches are read from the machine. Speeds are what `tdjax.calibrate` measured here with this
version of JAX. Where it never ran, they are those of the file in `tdjax/devices` for this kind of
device, or of the nearest CPU that has one, measured with the nearest version of JAX. Choices depend
on ratios of speeds alone, so that a CPU of the same design that is faster as a whole gets the same
choices.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

import jax

from tdjax.devices import calibration, shipped
from tdjax.devices.attached import assumed, cpu_caches, device_kind, platform
from tdjax.devices.calibration import Calibration
from tdjax.devices.processor import Processor, cores
from tdjax.devices.shipped import SPEEDS, Device

# Larger blocks glibc gets from the system at every call, and returns: mallopt(3),
# DEFAULT_MMAP_THRESHOLD_MAX.
_FRESH_ABOVE = 32 * 2**20
_TEMPORARY_WITHIN = 0.33  # how far estimates of it are off, as the standard deviation of logarithms
_LEAST_FOR_A_CORE = 2**18
# Eigen, by which XLA for CPUs multiplies matrices, gives one core to products of fewer operations:
# measured (Zen 4), 8.4e6 run on one core, and 1.7e7 on both, of 64 columns as of 1024.
_LEAST_FOR_ALL_CORES = 1.2e7
# What makes up for what predictions leave out is fitted with them, and is wrong under others.
_OF_PREDICTIONS = {
    "fresh_bytes_s": 5.7e9,
    "patch_passes": 1.5,
    "kept_passes": 4.0,
    "stacked_passes": 18.0,
    "looped_passes": 2.2,
}
# What files of CPUs lack that were written before it was measured.
_USUAL_ON_CPUS = {
    "channel_flops_s": 1.3e10,
    "naive_flops_s": 7e8,
    "batched_product": 1.0,
    "plain_product": 1.5,
    "packed_values_s": 1e10,
    "pooled_values_s": 5e8,
    "apart_conv": 1.0,
    "tiled_conv": 0.55,
    "tiled_back": 0.6,
}
# A form must be so many times as fast as XLA's own to be taken: calibrations err.
_CLEARLY = 1.1


@dataclasses.dataclass(frozen=True)
class Machine:
    """A device.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        dot_flops_s, conv_flops_s: floating point operations per second that products of matrices
            and convolutions reach.
        transcendentals_s: values of exp, tanh and the like per second.
        near_bytes, far_bytes: size of the cores' own caches together, and of the cache that they
            share; 0 for a device whose caches no block of rows is sized for.
        near_bytes_s, far_bytes_s, memory_bytes_s: bytes per second that operations read and write
            where their values lie in the near cache, in the far one, and in neither.
        channel_flops_s: floating point operations per second of convolutions of every channel with
            a kernel of its own; `naive_flops_s` where XLA for CPUs computes them, or gradients for
            kernels, in plain loops.
        operation_s: overhead of an operation, in seconds.
        turn_s: overhead of a turn of a loop, in seconds.
        fresh_above: temporary memory of more bytes than this comes fresh from the system at every
            call, and is returned to it; inf where that is not so.
        fresh_bytes_s: bytes per second at which the system provides fresh memory.
        pooled_values_s: values a second that gradients of pooling go through where they are left
            to XLA for CPUs; see `Work.pooled_values`.
        packed_values_s: values a second that convolutions put in order.
        narrow_conv: how many times longer an operation takes in a convolution to few features, or
            of few values an output, to which some versions of XLA give one core; `apart_conv` where
            it is taken apart into its taps along the first axis; `tiled_conv` in one that is
            computed by tiles, beside the memory that these take, and `tiled_back` in its gradient.
        back_conv: how many times longer an operation takes in the gradient of a convolution, where
            that for the kernel is a convolution along one axis; `back_conv_2d` where it is one
            along two axes; `plain_conv` where the gradient is left to XLA for CPUs.
        batched_product: how many times longer a product of several pairs of matrices takes, to
            which some versions of XLA give one core.
        plain_product: how many times longer a convolution of a single place takes where it is left
            to XLA for CPUs.
        patch_passes: how often a gradient reads or writes the images and outputs of convolutions,
            which it brings into another order.
        kept_passes: how often a gradient reads or writes what the forward pass kept, judging by
            its time; `stacked_passes` where a loop stacks that and takes it apart again.
        cores: how many a program may use; 1 for a device that gives all of it to every operation.
        looped_passes: how often a loop reads or writes what its blocks take and give, judging by
            its time.
        source: where these figures come from, in a sentence.
    """

    platform: str
    dot_flops_s: float
    conv_flops_s: float
    transcendentals_s: float
    near_bytes: float
    far_bytes: float
    near_bytes_s: float
    far_bytes_s: float
    memory_bytes_s: float
    operation_s: float
    turn_s: float
    fresh_bytes_s: float
    fresh_above: float = _FRESH_ABOVE
    channel_flops_s: float = math.inf
    naive_flops_s: float = math.inf
    pooled_values_s: float = math.inf
    packed_values_s: float = math.inf
    narrow_conv: float = 1.0
    apart_conv: float = math.inf
    tiled_conv: float = math.inf
    tiled_back: float = math.inf
    back_conv: float = 1.0
    back_conv_2d: float = math.inf
    plain_conv: float = 1.0
    batched_product: float = 1.0
    plain_product: float = 1.0
    patch_passes: float = 1.0
    kept_passes: float = 2.0
    stacked_passes: float = 4.0
    looped_passes: float = 2.0
    cores: int = 1
    source: str = ""

    @property
    def speeds(self) -> dict[str, float]:
        """The figures that are fitted to measurements."""
        return {name: getattr(self, name) for name in SPEEDS}

    @property
    def takes_apart(self) -> bool:
        """Whether a convolution to few features is faster taken apart into taps than as XLA's."""
        return _CLEARLY * self.apart_conv < self.narrow_conv

    @property
    def takes_tiles(self) -> bool:
        """Whether a convolution of three taps an axis is faster by tiles than otherwise."""
        return _CLEARLY * self.tiled_conv < min(self.narrow_conv, self.apart_conv)

    @property
    def gradient_axes(self) -> int:
        """Along how many axes the gradient for a kernel is fastest as a convolution."""
        return 2 if self.back_conv_2d < self.back_conv else 1

    def fresh_s(self, temporary: float) -> float:
        """Return what it costs, on average, to get about so much temporary memory.

        A program that takes a little less than `fresh_above` has it for nothing. An estimate tells
        how likely that is: its errors are as a normal distribution of its logarithm.
        """
        if temporary <= 0 or self.fresh_above == math.inf:
            return 0.0
        above = math.log(temporary / self.fresh_above) / _TEMPORARY_WITHIN
        likely = math.erfc(-above / math.sqrt(2)) / 2
        return likely * temporary / self.fresh_bytes_s

    def part_at_work(self, written: float) -> float:
        """Return the part of the usual cores that an operation keeps busy which writes so much.

        XLA for CPUs gives what memory limits to the square root of the cores, 256 KiB each or more.
        """
        usual = math.ceil(math.sqrt(self.cores))
        return min(usual, max(1.0, written // _LEAST_FOR_A_CORE)) / usual

    def faster_by(self, tasks: int) -> float:
        """Return how many times as fast equal tasks of one core each are on all of them.

        Whatever order they are begun in, n tasks on c cores take at most (n + c - 1) / c times as
        long as one (R. L. Graham, Bounds for certain multiprocessing anomalies, 1966).
        """
        return tasks * self.cores / (tasks + self.cores - 1)

    def part_for_product(self, flops: float) -> float:
        """Return the part of the cores that compute a product of matrices of so many operations."""
        return 1.0 if flops >= _LEAST_FOR_ALL_CORES else 1 / self.cores

    def bytes_s(self, working_set: float) -> float:
        """Return how many bytes per second operations move whose values take so much memory.

        Of values that do not fit a cache, a part still does: the speed falls gradually.
        """
        if not self.far_bytes:
            return self.memory_bytes_s
        if working_set <= self.near_bytes:
            return self.near_bytes_s
        near = self.near_bytes / working_set
        slower = self.far_bytes_s
        if working_set > self.far_bytes:
            far = self.far_bytes / working_set
            slower = 1 / (far / self.far_bytes_s + (1 - far) / self.memory_bytes_s)
        return 1 / (near / self.near_bytes_s + (1 - near) / slower)


# On an accelerator a block that does not fill the device wastes it, and starting an operation takes
# as long as moving megabytes: computing all rows at once is fastest.
_ACCELERATOR = Machine(
    platform="gpu",
    dot_flops_s=1.0e14,
    conv_flops_s=1.0e14,
    transcendentals_s=1.0e13,
    near_bytes=0,
    far_bytes=0,
    near_bytes_s=1.0e12,
    far_bytes_s=1.0e12,
    memory_bytes_s=1.0e12,
    operation_s=5.0e-6,
    turn_s=1.0e-5,
    fresh_above=math.inf,
    fresh_bytes_s=math.inf,
)


_chosen: contextvars.ContextVar[Machine | None] = contextvars.ContextVar("machine", default=None)


def current_machine() -> Machine:
    """Return the device that a call will run on; see `tdjax.devices.attached`."""
    return _chosen.get() or machine_of(platform())


@contextlib.contextmanager
def assume_machine(machine: Machine) -> Iterator[None]:
    """Choose for a machine of these speeds."""
    token = _chosen.set(machine)
    try:
        yield
    finally:
        _chosen.reset(token)


def machine_of(platform: str) -> Machine:
    """Return what is known of a platform: "cpu", "gpu", "tpu" or another."""
    if (device := assumed()) is not None:
        return _machine(platform, device.kind or "")
    kind = device_kind()
    return _machine(platform, kind, calibration.find(kind))


@functools.lru_cache(64)
def _machine(platform: str, kind: str, own: Calibration | None = None) -> Machine:
    found, whose = _shipped(platform, kind)
    speeds: dict[str, Any]
    if own is not None and own.platform == platform:
        speeds = {**(found.speeds if found else {}), **own.speeds}
        source = f"Speeds were calibrated on this machine, {own.date}, jax {own.versions['jax']}."
    elif found is not None:
        speeds = {**found.speeds}
        source = f"Speeds are those of {whose}, {found.date}, jax {found.versions.get('jax')}."
        if platform == jax.default_backend():
            source += " `tdjax calibrate` measures this machine's own."
    else:
        says = [each.says for each in shipped.devices() if each.platform == platform and each.says]
        speeds = {}
        source = " ".join(["No such device was measured: all rows at once keep one busy.", *says])
    if platform == "cpu" and speeds:
        return cpu_of(speeds, cpu_caches(), cores(), source)
    return dataclasses.replace(_ACCELERATOR, platform=platform, source=source, **speeds)


def cpu_of(
    speeds: Mapping[str, float], caches: tuple[float, float], cores: int, source: str = ""
) -> Machine:
    """Return a CPU of these speeds, whose near and far caches have so many bytes.

    Half of the far one counts: the rest holds what is read once, or is another's.
    """
    near, far = caches[0], max(caches[0], caches[1] / 2)
    given: dict[str, Any] = {**_USUAL_ON_CPUS, **speeds, "cores": cores, "source": source}
    if not speeds.keys() >= _USUAL_ON_CPUS.keys():  # fitted with earlier predictions
        given |= _OF_PREDICTIONS
    return Machine("cpu", near_bytes=near, far_bytes=far, **given)


def machine_elsewhere(platform: str, kind: str, speeds: Mapping[str, float]) -> Machine:
    """Return a device that need not be here, of these speeds."""
    if platform == "cpu":
        there = Processor.of_kind(kind)
        return cpu_of(speeds, there.cache_bytes, max(1, there.cores))
    given: dict[str, Any] = {**speeds}
    return dataclasses.replace(_ACCELERATOR, platform=platform, **given)


def calibrated_from(platform: str) -> tuple[Machine, Mapping[str, float]]:
    """Return what a calibration begins at, and what it would find where that was fitted.

    That is what is shipped for this kind of device, or for the nearest one.
    """
    found, _ = _shipped(platform, device_kind())
    return _machine(platform, device_kind()), found.probed if found else {}


def _shipped(platform: str, kind: str) -> tuple[Device | None, str]:
    """Return what is shipped of a kind of device, or of the nearest CPU, and which that is."""
    measured = [
        each
        for each in shipped.devices()
        if each.platform == platform and each.evidence == "measured"
    ]
    own = [each for each in measured if each.kind == kind]
    if own:
        return min(own, key=_versions_apart), "this kind of device"
    if platform != "cpu" or not measured:
        return None, ""
    here = Processor.of_kind(kind)
    closest = max(here.nearness(Processor.of_kind(each.kind)) for each in measured)
    found = min(
        (e for e in measured if here.nearness(Processor.of_kind(e.kind)) == closest),
        key=_versions_apart,
    )
    likeness = here.likeness(Processor.of_kind(found.kind))
    return found, f"the nearest one that was measured ({found.kind}: {likeness})"


def _versions_apart(device: Device) -> tuple[int, ...]:
    """Return how far a file's version of JAX is from this one's: its first numbers count most."""
    theirs = [int(part) for part in re.findall(r"\d+", device.versions.get("jax", ""))]
    return tuple(abs(a - b) for a, b in zip_longest(jax.__version_info__, theirs[:3], fillvalue=0))
