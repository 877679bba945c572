"""What the package knows of devices, one file for each.

A file in `devices/` holds the speeds that costs are predicted from and results of tuning, with the
kind of device, the date and the versions that they are from. `tdjax tune --out` writes one. For a
device that was not measured it may hold a sentence on what its compiler says of the suite instead.
"""

from __future__ import annotations

import functools
import json
import warnings
from pathlib import Path
from typing import Any

FORMAT = "tdjax-device"
VERSION = 2

_FOLDER = Path(__file__).parent


@functools.cache
def devices() -> tuple[dict[str, Any], ...]:
    """Return what the files hold, in the order of their names; warn of other formats' files."""
    found = []
    for path in sorted(_FOLDER.glob("*.json")):
        content = json.loads(path.read_text())
        if (kind := (content.get("format"), content.get("version"))) == (FORMAT, VERSION):
            found.append(content)
        else:
            warnings.warn(
                f"{path} is left out: it is of {kind[0]} {kind[1]}, needed {FORMAT} {VERSION}. "
                f"Write it anew: tdjax tune --out {path.name}",
                stacklevel=2,
            )
    return tuple(found)


@functools.cache
def results(kind: str) -> tuple[dict[str, Any], ...]:
    """Return what tuning has measured on a kind of device."""
    return tuple(
        result for device in devices() if device["kind"] == kind for result in device["results"]
    )
