"""From the text of an optimized HLO program to a `Module`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tdjax.comparison.hlo.module import Computation, Instruction, Module
from tdjax.comparison.hlo.shape import parse_shape

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+)[ ({]")
_START = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"[a-z]\w*\[[^\]]*\](?:\{[^}]*\})?")
_OPCODE = re.compile(r" ([a-z][\w\-]*)\(")
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[()]')
_OPERAND = re.compile(r"%([\w.\-]+)")
_WITHOUT_OPERANDS = ("constant", "parameter")

# The tables of Python call stacks that stand before the code.
_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
_ROW = re.compile(r"^(\d+) (.*)$")
_FIELD = re.compile(r"(\w+)=(\d+)")


def parse(text: str) -> Module:
    """Read what `jax.stages.Compiled.as_text` gives.

    Raises:
        ValueError: it is not an HLO program, or has a line that cannot be read.
    """
    lines = text.splitlines()
    computations: dict[str, Computation] = {}
    entry = None
    for is_entry, name, body in _bodies(lines):
        computation = _computation(name, body)
        computations[name] = computation
        entry = computation if is_entry else entry
    if entry is None:
        raise ValueError("HLO program: it has no ENTRY computation")
    return Module(computations, entry, _read_stacks(lines))


def _bodies(lines: Iterable[str]) -> Iterator[tuple[bool, str, list[str]]]:
    """Yield every computation: whether it is the entry, its name, and its lines."""
    body: list[str] | None = None
    is_entry, name = False, ""
    for line in lines:
        if body is None:
            found = _HEADER.match(line) if line.endswith("{") else None
            if found and not line.startswith("HloModule"):
                is_entry, name, body = found[1] is not None, found[2], []
        elif line.startswith("}"):
            yield is_entry, name, body
            body = None
        else:
            body.append(line)


def _computation(name: str, lines: Iterable[str]) -> Computation:
    instructions: dict[str, Instruction] = {}
    root = None
    for line in lines:
        start = _START.match(line)
        if start is None:
            continue
        instruction = _instruction(start[2], line, start.end())
        instructions[instruction.name] = instruction
        root = instruction if start[1] or root is None else root
    if root is None:
        raise ValueError(f"HLO program: the computation {name} is empty")
    return Computation(name, instructions, root)


def _instruction(name: str, line: str, start: int) -> Instruction:
    end = _shape_end(line, start)
    opcode = _OPCODE.match(line, end)
    if opcode is None:
        raise ValueError(f"HLO program: cannot read the line {line.strip()[:80]!r}")
    close = _closing(line, opcode.end() - 1)
    inside = line[opcode.end() : close]
    named = () if opcode[1] in _WITHOUT_OPERANDS else tuple(_OPERAND.findall(inside))
    shape = parse_shape(line[start:end])
    return Instruction(name, opcode[1], shape, named, inside, line[close + 1 :].lstrip(", "))


def _shape_end(line: str, start: int) -> int:
    if line.startswith("(", start):
        return _closing(line, start) + 1
    found = _ARRAY.match(line, start)
    if found is None:
        raise ValueError(f"HLO program: cannot read the line {line.strip()[:80]!r}")
    return found.end()


def _closing(line: str, start: int) -> int:
    """Return where the parenthesis that opens at `start` closes."""
    depth = 0
    for token in _BRACKET.finditer(line, start):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth == 0:
            return token.start()
    raise ValueError(f"HLO program: an open parenthesis in {line.strip()[:80]!r}")


def _read_stacks(lines: Iterable[str]) -> dict[int, tuple[tuple[str, int], ...]]:
    """Return `(file, line)` of every frame and of its callers, innermost first."""
    tables = _tables(lines)
    files = {row: text.strip('"') for row, text in tables["FileNames"].items()}
    locations = {row: _fields(text) for row, text in tables["FileLocations"].items()}
    frames = {row: _fields(text) for row, text in tables["StackFrames"].items()}
    # A caller's frame comes before its callee's. Some versions number the parents one too high.
    shift = int(any(fields.get("parent_frame_id", 0) >= row for row, fields in frames.items()))
    stacks: dict[int, tuple[tuple[str, int], ...]] = {}
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
