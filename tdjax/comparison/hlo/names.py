"""Whether two programs are the same, whatever their instructions are called."""

from __future__ import annotations

import hashlib
import re

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_SOURCE = re.compile(
    r",? ?(?:metadata|frontend_attributes|origin)="
    rf'\{{(?:[^{{}}"]|{_QUOTED}|\{{(?:[^{{}}"]|{_QUOTED})*\}})*\}}'
)
_NAME = re.compile(r"%[\w.\-]+")
_PARAMETER = re.compile(r"[\w.\-]+: ")


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
