"""The shape of a value in an HLO program, with its layout: how many bytes it takes in memory."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

_ARRAY = re.compile(r"([a-z]\w*)\[([^\]]*)\](?:\{([^}]*)\})?")
_BITS = re.compile(r"[a-z]+(\d+)")
_TILE = re.compile(r"\(([\d,]+)\)")
_TILES = re.compile(r"T((?:\([\d,*]+\))+)")
_SPACE = re.compile(r"S\((\d+)\)")
_COMMENT = re.compile(r"/\*.*?\*/")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[(){}\[\],]')
_NO_DATA = ("token", "opaque")


@dataclass(frozen=True)
class Shape:
    """An array, or a tuple of shapes.

    Attributes:
        element_type: as HLO writes it: "f32", "bf16", "pred"; "tuple" for a tuple.
        sizes: the logical sizes.
        minor_to_major: the axes, fastest varying in memory first.
        tile: the outermost tile of the layout; it pads the minor axes. TPUs have them.
        space: the memory it lies in; 0 is the device's main memory.
        members: the shapes of a tuple.
    """

    element_type: str
    sizes: tuple[int, ...] = ()
    minor_to_major: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    space: int = 0
    members: tuple[Shape, ...] = ()

    @property
    def elements(self) -> int:
        """How many elements it has; a tuple: all of its arrays together."""
        if self.element_type == "tuple":
            return sum(member.elements for member in self.members)
        return math.prod(self.sizes)

    @cached_property
    def bytes(self) -> int:
        """The bytes that it takes in memory, padding included; a tuple: its arrays."""
        if self.element_type == "tuple":
            return sum(member.bytes for member in self.members)
        return (math.prod(self._padded()) * self._bits() + 7) // 8

    @property
    def in_memory(self) -> tuple[int, ...]:
        """The axes, slowest varying first."""
        return tuple(reversed(self.minor_to_major))

    def _padded(self) -> list[int]:
        sizes = [self.sizes[axis] for axis in self.in_memory]
        sizes = [1] * (len(self.tile) - len(sizes)) + sizes
        for axis, tile in enumerate(reversed(self.tile), 1):
            sizes[-axis] = -(-sizes[-axis] // tile) * tile
        return sizes

    def _bits(self) -> int:
        if self.element_type in _NO_DATA:
            return 0
        found = _BITS.match(self.element_type)
        return int(found[1]) if found else 8


@lru_cache(maxsize=4096)
def parse_shape(text: str) -> Shape:
    """Return the shape that `text` writes, such as `bf16[8,64]{1,0:T(8,128)(2,1)}`.

    Raises:
        ValueError: it is not a shape.
    """
    text = _COMMENT.sub("", text).strip()
    if text.startswith("("):
        return Shape("tuple", members=tuple(map(parse_shape, split(text[1:-1]))))
    found = _ARRAY.fullmatch(text)
    if found is None:
        raise ValueError(f"HLO shape: cannot read {text!r}")
    kind, sizes, layout = found[1], _sizes(found[2]), found[3] or ""
    order, _, details = layout.partition(":")
    given = tuple(int(axis) for axis in order.split(",") if axis)
    tiles, space = _TILES.search(details), _SPACE.search(details)
    tile = _TILE.match(tiles[1]) if tiles else None
    return Shape(
        element_type=kind,
        sizes=sizes,
        minor_to_major=given or tuple(reversed(range(len(sizes)))),
        tile=tuple(map(int, tile[1].split(","))) if tile else (),
        space=int(space[1]) if space else 0,
    )


def _sizes(text: str) -> tuple[int, ...]:
    """Return the sizes; a dynamic one (`<=8`) by its bound."""
    return tuple(int(size.strip().removeprefix("<=")) for size in text.split(",") if size.strip())


def split(text: str) -> list[str]:
    """Split at the commas that stand outside of quotes and brackets."""
    parts, depth, start = [], 0, 0
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in "({[":
            depth += 1
        elif mark in ")}]":
            depth -= 1
        elif mark == "," and depth == 0:
            parts.append(text[start : token.start()])
            start = token.end()
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]
