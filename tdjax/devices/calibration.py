"""The speeds that `tdjax.calibrate` measured on a machine, kept in a file of the user's cache."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tdjax.core import whole_file
from tdjax.core.kept_file import KeptFiles, cache_folder, jax_versions
from tdjax.core.typed import Positive, one_of
from tdjax.devices.shipped import check_speeds

FORMAT = "tdjax-calibration"
# What the programs measure, and what predictions make of it, is part of it: 5 priced convolutions
# of all kinds together, and is not read.
VERSION = 6


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was measured on a device.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        kind: the kind of device, as `device_kind` names it.
        date: when that was.
        versions: of jax and jaxlib.
        speeds: by their names, as `tdjax.costs.machine.Machine` explains them.
        probed: what the programs said by themselves, as in a `Device`.
    """

    platform: Annotated[str, one_of("cpu", "gpu", "tpu")]
    kind: str
    date: str
    versions: Mapping[str, str]
    speeds: Mapping[str, Positive] = field(repr=False)
    probed: Mapping[str, Positive] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_speeds(self.speeds, all_of_them=self.platform == "cpu")

    def __str__(self) -> str:
        width = max(map(len, self.speeds))
        lines = [f"{self.kind}, jax {self.versions.get('jax')}, {self.date}:"]
        lines += [f"  {name:<{width}}  {speed:.3g}" for name, speed in self.speeds.items()]
        return "\n".join(lines)


_kept = KeptFiles(Calibration, FORMAT, VERSION, "calibration", "`tdjax calibrate` writes it anew.")


def find(kind: str) -> Calibration | None:
    """Return what was calibrated on this kind of device with these versions of jax and jaxlib."""
    found = _kept.read(path_of(kind))
    # A file that was moved here says what it is of.
    return found if found and (found.kind, found.versions) == (kind, jax_versions()) else None


def keep(calibration: Calibration) -> Path:
    """Write a calibration over an earlier one.

    Raises:
        OSError: it cannot be written.
    """
    path = path_of(calibration.kind)
    whole_file.write(path, _kept.text(calibration))
    _kept.forget(path)
    return path


def path_of(kind: str) -> Path:
    """Return where what was calibrated on a kind of device is kept."""
    return _path_in(cache_folder("calibration"), kind)


@functools.lru_cache(16)
def _path_in(folder: Path, kind: str) -> Path:
    """Return the file's path; it is asked for at every call."""
    named = hashlib.sha256(repr((kind, *jax_versions().items())).encode()).hexdigest()
    return folder / f"{named[:32]}.json"
