"""Reading JSON into dataclasses: every value is checked against its field's type, once.

The types are the declaration. `Annotated[float, above(0)]` says more than Python's types can, and
so does a class whose construction raises ValueError. Whatever does not fit is one ValueError that
names the place: "entries[3].median_s: got 'x', needed a number".
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import reprlib
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

_Kind = TypeVar("_Kind")
_Read = Callable[[Any], Any]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Beyond these, arithmetic with what was read overflows, or divides by what is nearly nothing.
_LARGEST, _SMALLEST, _LARGEST_INT = 1e30, 1e-30, 2**63


class Needed(NamedTuple):
    """What a value has to be, beside its type."""

    words: str
    holds: Callable[[Any], bool]


def above(least: float) -> Needed:
    """Return that a number is larger than this."""
    return Needed(f"a number above {least}", lambda value: value > least)


def at_least(least: float) -> Needed:
    """Return that a number is not smaller than this."""
    return Needed(f"a number that is at least {least}", lambda value: value >= least)


def one_of(*values: str) -> Needed:
    """Return that a text is one of these."""
    return Needed(f"one of {', '.join(map(repr, values))}", lambda value: value in values)


Positive = Annotated[float, above(0)]
Amount = Annotated[float, at_least(0)]
Count = Annotated[int, at_least(0)]
Size = Annotated[int, at_least(1)]


class _Misfit(ValueError):
    """A value that does not fit, and the path to it, which grows from its end."""

    def __init__(self, said: str, path: str = "") -> None:
        super().__init__(_legible(f"{path.removeprefix('.')}: {said}" if path else said))
        self.said, self.path = said, path


def parse(text: str | bytes) -> Any:
    """Return the content of a JSON file.

    Raises:
        ValueError: it is not JSON, or is nested more deeply than anything that tdjax writes.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def load(
    kind: Callable[..., _Kind], path: Path, name: str, *versions: int, **lacking: Any
) -> _Kind:
    """Return what a file of a format holds, in one of its versions: the fields of a dataclass.

    Args:
        kind: the dataclass.
        path: the file.
        name: the format.
        *versions: those of it that are read, the newest last.
        **lacking: JSON values of fields that a file need not have.

    Raises:
        OSError: it cannot be read.
        ValueError: it is of another format, or damaged.
    """
    content = parse(path.read_bytes())
    if not isinstance(content, dict):
        raise _misfit(content, "a table")
    said = content.pop("format", None), content.pop("version", None)
    if said not in [(name, version) for version in versions]:
        raise ValueError(f"it is of {said[0]} {said[1]}, needed {name} {max(versions)}")
    return read(kind, {**lacking, **content})


def read(kind: Callable[..., _Kind], value: Any) -> _Kind:
    """Return what a JSON value stands for.

    Args:
        kind: a dataclass or named tuple, whose fields are None, bool, int, float, str, tuples,
            sequences, mappings with texts as keys, literal texts, such classes in turn, or unions
            of these.
        value: what `parse` gave.

    Raises:
        ValueError: a value is of another type, too large, missing or not known; with its place.
    """
    found: _Kind = _reader(kind)(value)
    return found


@functools.cache
def _reader(kind: Any) -> _Read:
    """Return the function that reads values of a type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return lambda value: value
    if kind in _PLAIN:
        return _checked(_legible, Needed(*_PLAIN[kind]))
    if origin is typing.Literal:
        return _checked(_reader(str), one_of(*inner))
    if origin is Annotated:
        return _checked(_reader(inner[0]), *inner[1:])
    if origin in (typing.Union, types.UnionType):
        return _union([each for each in inner if each is not type(None)], type(None) in inner)
    if origin is Mapping:
        return _mapping(_reader(inner[1]))
    if origin is tuple and inner[-1] is not Ellipsis:
        return _row(lambda *values: values, dict(enumerate(map(_reader, inner))))
    if origin in (tuple, Sequence):
        return _sequence(_reader(inner[0]))
    hints = typing.get_type_hints(kind, include_extras=True)
    if issubclass(kind, tuple):
        return _row(kind, dict(enumerate(map(_reader, hints.values()))))
    fields = dataclasses.fields(kind)
    may_lack = {each.name for each in fields if each.default_factory is not dataclasses.MISSING}
    return _record(kind, {each.name: _reader(hints[each.name]) for each in fields}, may_lack)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and (value == 0 or _SMALLEST <= abs(value) <= _LARGEST)


_PLAIN: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: type(value) is int and abs(value) < _LARGEST_INT),
    float: ("a number", _is_number),
    str: ("text", lambda value: isinstance(value, str)),
}


def _legible(value: Any) -> Any:
    """Return a text without what moves a terminal's cursor, or no file can hold; others as is."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else value


def _misfit(value: Any, needed: str) -> _Misfit:
    return _Misfit(f"got {reprlib.repr(value)}, needed {needed}")


def _checked(reader: _Read, *needs: Needed) -> _Read:
    def read(value: Any) -> Any:
        found = reader(value)
        for each in needs:
            if not each.holds(found):
                raise _misfit(value, each.words)
        return found

    return read


def _union(kinds: Sequence[Any], optional: bool) -> _Read:
    reader = _reader(kinds[0])
    if len(kinds) > 1:  # Plain types, which say in a word what is needed.
        needs = [_PLAIN[kind] for kind in kinds]
        words = " or ".join(words for words, _ in needs)
        fits = Needed(words, lambda value: any(holds(value) for _, holds in needs))
        reader = _checked(_legible, fits)
    return (lambda value: None if value is None else reader(value)) if optional else reader


def _inside(step: str, reader: _Read, value: Any) -> Any:
    try:
        return reader(value)
    except _Misfit as error:
        raise _Misfit(error.said, step + error.path) from None


def _sequence(reader: _Read) -> _Read:
    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise _misfit(value, "a list")
        return tuple(_inside(f"[{place}]", reader, each) for place, each in enumerate(value))

    return read


def _mapping(reader: _Read) -> _Read:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _misfit(value, "a table")
        return {_legible(n): _inside(f".{n}", reader, each) for n, each in value.items()}

    return read


def _row(make: Callable[..., Any], readers: Mapping[int, _Read]) -> _Read:
    def read(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(readers):
            raise _misfit(value, f"a list of {len(readers)}")
        return make(*(_inside(f"[{n}]", reader, value[n]) for n, reader in readers.items()))

    return read


def _record(
    kind: Callable[..., Any], readers: Mapping[str, _Read], may_lack: Collection[str]
) -> _Read:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _misfit(value, "a table")
        for name in sorted((readers.keys() ^ value.keys()) - {*may_lack}):
            raise _Misfit("is missing" if name in readers else "is not known", f".{name}")
        found = {n: _inside(f".{n}", readers[n], given) for n, given in value.items()}
        try:
            return kind(**found)
        except ValueError as error:
            raise _Misfit(str(error)) from None

    return read
