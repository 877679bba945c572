"""Reading an optimised HLO program: what it contains, and whether two are the same."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)
COUNTED = ("transpose", "copy", "gather", "while")

_OPERATION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (?:\(.*?\)|\S+) ([a-z][\w\-]*)\(", re.M)
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_SOURCE = re.compile(
    r",? ?(?:metadata|frontend_attributes|origin)="
    rf'\{{(?:[^{{}}"]|{_QUOTED}|\{{(?:[^{{}}"]|{_QUOTED})*\}})*\}}'
)
_NAME = re.compile(r"%[\w.\-]+")
_PARAMETER = re.compile(r"[\w.\-]+: ")


def operations(text: str) -> Counter[str]:
    """Return how often each operation stands in the program, fused ones included.

    An operation inside a loop is counted once, however often the loop runs it.
    """
    return Counter(_OPERATION.findall(text))


def counts(text: str) -> dict[str, int]:
    """Return the counts that an entry carries: the operations that only move data."""
    found = operations(text)
    moved = {name: found[name] for name in COUNTED}
    collectives = sum(found[name] + found[f"{name}-start"] for name in COLLECTIVES)
    return {**moved, "collectives": collectives}


def loops(text: str) -> bool:
    """Whether the program holds a loop or a branch, whose body a static count sees once."""
    found = operations(text)
    return bool(found["while"] or found["conditional"])


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
