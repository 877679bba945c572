"""What a device can do: the few figures that costs are predicted from.

A CPU's caches are read from the machine. Speeds were fitted to the devices that have a file in
`tdjax/devices`; a CPU without one gets the speeds of the nearest that has. Choices depend on ratios
of speeds alone, so that a CPU of the same design that is faster as a whole gets the same choices.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

from tdjax.devices import shipped
from tdjax.devices.attached import assumed, cpu_caches, device_kind, platform
from tdjax.devices.processor import Processor
from tdjax.devices.shipped import SPEEDS

# Larger blocks glibc gets from the system at every call, and returns: mallopt(3),
# DEFAULT_MMAP_THRESHOLD_MAX.
_FRESH_ABOVE = 32 * 2**20


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
        operation_s: overhead of an operation, in seconds.
        turn_s: overhead of a turn of a loop, in seconds.
        fresh_above: temporary memory of more bytes than this comes fresh from the system at every
            call, and is returned to it; inf where that is not so.
        fresh_bytes_s: bytes per second at which the system provides fresh memory.
        narrow_conv: how many times longer a convolution to few features takes on the one core that
            XLA gives it than on all of them.
        back_conv: how many times longer an operation takes in the gradient of a convolution;
            `plain_conv` where that is left to XLA for CPUs.
        patch_passes: how often a gradient reads or writes the patches that a convolution is taken
            apart into.
        kept_passes: how often a gradient reads or writes what the forward pass kept, judging by
            its time; `stacked_passes` where a loop stacks that and takes it apart again.
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
    fresh_above: float
    fresh_bytes_s: float
    narrow_conv: float = 1.0
    back_conv: float = 1.0
    plain_conv: float = 1.0
    patch_passes: float = 1.0
    kept_passes: float = 2.0
    stacked_passes: float = 4.0
    source: str = ""

    @property
    def speeds(self) -> dict[str, float]:
        """The figures that are fitted to measurements."""
        return {name: getattr(self, name) for name in SPEEDS}

    def fresh_s(self, temporary: float) -> float:
        """Return what it costs to get so much temporary memory from the system."""
        return temporary / self.fresh_bytes_s if temporary > self.fresh_above else 0.0

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


def current_machine() -> Machine:
    """Return the device that a call will run on; see `tdjax.devices.attached`."""
    return machine_of(platform())


def machine_of(platform: str) -> Machine:
    """Return what is known of a platform: "cpu", "gpu", "tpu" or another."""
    device = assumed()
    return _machine(platform, device_kind() if device is None else device.kind or "")


@functools.cache
def _machine(platform: str, kind: str) -> Machine:
    known = [each for each in shipped.devices() if each.platform == platform]
    measured = [each for each in known if each.evidence == "measured"]
    own = [each for each in measured if each.kind == kind]
    if not own and (platform != "cpu" or not measured):
        said = [each.says for each in known if each.says]
        source = " ".join(["No such device was measured: all rows at once keep one busy.", *said])
        return dataclasses.replace(_ACCELERATOR, platform=platform, source=source)
    first, whose = (own or measured)[0], "this kind of device"
    if not own:
        here = Processor.of_kind(kind)
        first = max(measured, key=lambda each: here.nearness(Processor.of_kind(each.kind)))
        likeness = here.likeness(Processor.of_kind(first.kind))
        whose = f"the nearest one that was measured ({first.kind}: {likeness})"
    speeds: dict[str, Any] = {**first.speeds}
    speeds["source"] = f"Speeds are those of {whose}, {first.date}."
    if platform != "cpu":
        return dataclasses.replace(_ACCELERATOR, platform=platform, **speeds)
    near, far = cpu_caches()
    return Machine(
        platform="cpu", near_bytes=near, far_bytes=far, fresh_above=_FRESH_ABOVE, **speeds
    )
