"""What an optimized program says of itself, and whether two programs are the same."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from tdjax.comparison.hlo.cost import costs
from tdjax.comparison.hlo.module import Module
from tdjax.comparison.hlo.movement import Movement, Steps, movements
from tdjax.comparison.hlo.opcodes import COLLECTIVES
from tdjax.comparison.hlo.parse import parse

COUNTED = ("transpose", "copy", "gather", "while")
# Where these choose otherwise, by a rounding, a derivative jumps.
_CHOOSING = ("select", "maximum", "minimum", "clamp", "sign", "select-and-scatter", "sort")

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_SOURCE = re.compile(
    r",? ?(?:metadata|frontend_attributes|origin)="
    rf'\{{(?:[^{{}}"]|{_QUOTED}|\{{(?:[^{{}}"]|{_QUOTED})*\}})*\}}'
)
_NAME = re.compile(r"%[\w.\-]+")
_PARAMETER = re.compile(r"[\w.\-]+: ")
_OWN = ("loops", "chooses")


@dataclass(frozen=True)
class Facts:
    """What an optimized program says of itself; None for what is not known.

    Attributes:
        loops: whether it holds a loop or a branch.
        chooses: whether it holds an operation such as a relu, whose derivative jumps.
        flops, bytes_accessed, comm_bytes, estimated_cycles, hlo, program, movements: see `Entry`.
    """

    loops: bool = False
    chooses: bool = True
    flops: float | None = None
    bytes_accessed: float | None = None
    comm_bytes: int | None = None
    estimated_cycles: int | None = None
    hlo: dict[str, int] | None = None
    program: str | None = None
    movements: tuple[Movement, ...] | None = None

    def to_entry(self) -> dict[str, Any]:
        """Return the fields of an `Entry` that they fill."""
        return {name: value for name, value in vars(self).items() if name not in _OWN}


def read_facts(text: str | None, steps: Steps | None = None) -> Facts:
    """Return what an optimized HLO program says; nothing is known of a device without one."""
    if not text:
        return Facts()
    try:
        module = parse(text)
    except ValueError:  # Written by a compiler whose text this reader does not know.
        return Facts(loops=True, program=fingerprint(text))
    totals = costs(module)
    return Facts(
        loops=loops(module),
        chooses=not module.opcodes.keys().isdisjoint(_CHOOSING),
        flops=totals.flops,
        bytes_accessed=totals.bytes_accessed,
        comm_bytes=None if totals.comm_bytes is None else int(totals.comm_bytes),
        estimated_cycles=None if totals.cycles is None else int(totals.cycles),
        hlo=counts(module),
        program=fingerprint(text),
        movements=movements(module, steps),
    )


def counts(module: Module) -> dict[str, int]:
    """Return the counts that an entry carries: the operations that only move data, and loops."""
    found = module.opcodes
    collectives = sum(found[name] + found[f"{name}-start"] for name in COLLECTIVES)
    return {**{name: found[name] for name in COUNTED}, "collectives": collectives}


def loops(module: Module) -> bool:
    """Whether the program holds a loop or a branch."""
    return not module.opcodes.keys().isdisjoint(("while", "conditional"))


def canonical(text: str) -> str:
    """Return the program without what differs between two traces of the same one.

    Names are numbered in the order in which they appear; source lines and the module's name
    are dropped. Layouts, operations and their attributes stay.
    """
    header, _, body = text.partition("\n")
    layout = header.partition("entry_computation_layout=")[2]
    start = re.search(r"^(?:%|ENTRY )", body, re.M)
    body = _SOURCE.sub("", body[start.start() :] if start else body)
    numbers: dict[str, str] = {}
    lines = []
    for line in body.splitlines():
        if not line.startswith(" ") and line.endswith("{"):
            line = _PARAMETER.sub("", line)
        lines.append(_NAME.sub(lambda m: numbers.setdefault(m[0], f"%{len(numbers)}"), line))
    return "\n".join([layout, *lines])


def fingerprint(text: str) -> str:
    """Return a hash that two programs share if the compiler made the same of both."""
    return hashlib.sha256(canonical(text).encode()).hexdigest()[:16]
