"""The Python call stacks that an optimized HLO program keeps in tables before its code."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
_ROW = re.compile(r"^(\d+) (.*)$")
_FIELD = re.compile(r"(\w+)=(\d+)")

Stack = tuple[tuple[str, int], ...]


def read_stacks(lines: Iterable[str]) -> dict[int, Stack]:
    """Return `(file, line)` of every frame and of its callers, innermost first."""
    tables = _tables(lines)
    files = {row: text.strip('"') for row, text in tables["FileNames"].items()}
    locations = {row: _fields(text) for row, text in tables["FileLocations"].items()}
    frames = {row: _fields(text) for row, text in tables["StackFrames"].items()}
    # A caller's frame comes before its callee's. Some versions number the parents one too high.
    shift = int(any(fields.get("parent_frame_id", 0) >= row for row, fields in frames.items()))
    stacks: dict[int, Stack] = {}
    for row, fields in sorted(frames.items()):
        location = locations.get(fields.get("file_location_id", 0), {})
        file = files.get(location.get("file_name_id", 0))
        here = () if file is None else ((file, location.get("line", 0)),)
        stacks[row] = here + stacks.get(fields.get("parent_frame_id", 0) - shift, ())
    return stacks


def _tables(lines: Iterable[str]) -> dict[str, dict[int, str]]:
    tables: dict[str, dict[int, str]] = {name: {} for name in _TABLES}
    current = None
    for line in lines:
        if line.startswith(("%", "ENTRY")):
            break
        if line in _TABLES:
            current = tables[line]
        elif current is not None and (found := _ROW.match(line)):
            current[int(found[1])] = found[2]
    return tables


def _fields(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in _FIELD.findall(text)}
