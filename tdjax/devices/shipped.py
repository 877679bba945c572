"""What the package knows of devices, one file for each.

A file in `devices/` holds the speeds that costs are predicted from and results of tuning, with the
kind of device, the date and the versions that they are from. `tdjax tune --out` writes one. For a
device that was not measured it may hold a sentence on what its compiler says of the suite instead.
"""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tdjax.core import typed
from tdjax.core.typed import Positive, one_of
from tdjax.devices.tuned_result import Tuned

FORMAT = "tdjax-device"
VERSION = 6
_READ = (3, 4, 5, VERSION)
# The figures of `tdjax.costs.machine.Machine` that are fitted to measurements.
SPEEDS = (
    ("dot_flops_s", "conv_flops_s", "transcendentals_s", "near_bytes_s", "far_bytes_s")
    + ("memory_bytes_s", "operation_s", "turn_s", "fresh_bytes_s", "channel_flops_s")
    + ("naive_flops_s", "pooled_values_s", "packed_values_s", "narrow_conv", "apart_conv")
    + ("tiled_conv", "back_conv", "back_conv_2d", "tiled_back", "plain_conv", "plain_product")
    + ("batched_product", "patch_passes", "kept_passes", "stacked_passes", "looped_passes")
)  # fmt: skip

# What files of earlier versions lack; machines have it by default.
_LATER = (
    ("channel_flops_s", "naive_flops_s", "plain_product", "looped_passes")
    + ("apart_conv", "back_conv_2d", "tiled_conv", "tiled_back", "batched_product")
    + ("packed_values_s", "pooled_values_s")
)  # fmt: skip

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Device:
    """What a file holds.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        kind: the kind of device, as `device_kind` names it.
        evidence: "measured"; or "compiled", where only its compiler is known.
        date: when that was.
        versions: of the packages that it was measured or compiled with.
        regret: the time of what is chosen by its speeds over that of the best.
        says: a sentence on what its compiler says.
        speeds: by their names; of an accelerator, only those that limit it.
        results: what tuning measured.
        probed: what the programs of `calibrate` say of these speeds on that machine.
    """

    platform: str
    kind: str
    evidence: Annotated[str, one_of("measured", "compiled")]
    date: str
    versions: Mapping[str, str]
    regret: Positive | None
    says: str | None
    speeds: Mapping[str, Positive]
    results: tuple[Tuned, ...]
    probed: Mapping[str, Positive] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_speeds(self.speeds, self.platform == "cpu" and self.evidence == "measured")
        check_speeds(self.probed, all_of_them=False)


def check_speeds(speeds: Mapping[str, float], all_of_them: bool) -> None:
    """Raise ValueError where speeds have other names than `SPEEDS`, or lack some of the first."""
    odd = speeds.keys() - set(SPEEDS)
    if all_of_them:
        odd |= set(SPEEDS) - set(_LATER) - speeds.keys()
    if odd:
        raise ValueError(f"speeds that are missing or not known: {', '.join(sorted(odd))}")


@functools.cache
def devices() -> tuple[Device, ...]:
    """Return what the files hold, in the order of their names; warn of those that do not fit."""
    found = []
    for path in sorted(_FOLDER.glob("*.json")):
        try:
            found.append(typed.load(Device, path, FORMAT, *_READ))
        except (OSError, ValueError) as error:
            warnings.warn(
                f"{path} is left out: {error}. Write it anew: tdjax tune --out {path.name}",
                stacklevel=2,
            )
    return tuple(found)


@functools.cache
def results(kind: str) -> tuple[Tuned, ...]:
    """Return what tuning has measured on a kind of device."""
    return tuple(result for device in devices() if device.kind == kind for result in device.results)


def text_of(
    platform: str,
    kind: str,
    date: str,
    speeds: Mapping[str, float],
    versions: Mapping[str, str],
    regret: float | None = None,
    results: Sequence[Tuned] = (),
    probed: Mapping[str, float] | None = None,
) -> str:
    """Return the text of a file of a device that was measured; see `Device`."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "platform": platform,
        "kind": kind,
        "evidence": "measured",
        "date": date,
        "versions": dict(versions),
        "regret": None if regret is None else round(regret, 3),
        "says": None,
        "speeds": _rounded(speeds),
        "results": results,
        "probed": _rounded(probed or {}),
    }
    return json.dumps(content, indent=1, default=vars) + "\n"


def _rounded(speeds: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{s:.3g}") for name, s in speeds.items() if math.isfinite(s)}
