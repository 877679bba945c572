"""Reading JSON by the types of dataclasses: what fits, and how an error names what does not."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import pytest

from tdjax.core.typed import Count, Positive, above, one_of, parse, read


class Pair(NamedTuple):
    name: str
    size: Count


@dataclass(frozen=True)
class Inner:
    times: tuple[Positive, ...]
    pair: Pair | None = None


@dataclass(frozen=True)
class Outer:
    kind: Annotated[str, one_of("a", "b")]
    inner: Mapping[str, Inner]
    sizes: tuple[int, float]
    more: str | int | None
    odd: Annotated[int, above(2)] = 3

    def __post_init__(self):
        if self.odd % 2 == 0:
            raise ValueError("odd is even")


WHOLE = {
    "kind": "a", "inner": {"x": {"times": [1, 0.5], "pair": ["p", 2]}}, "sizes": [3, 4],
    "more": None, "odd": 5,
}  # fmt: skip


def test_what_fits_is_made():
    inner = {"x": Inner((1, 0.5), Pair("p", 2))}
    assert read(Outer, WHOLE) == Outer("a", inner, (3, 4), None, 5)
    assert read(
        Outer, {**WHOLE, "more": "\x1b[2J\ud800\n"}
    ).more == "\N{REPLACEMENT CHARACTER}[2J" + ("\N{REPLACEMENT CHARACTER}\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "c"}, "kind: got 'c', needed one of 'a', 'b'"),
        ({"kind": 1}, "kind: got 1, needed text"),
        ({"inner": []}, "inner: got [], needed a table"),
        ({"inner": {"x": {"times": 1, "pair": None}}}, "inner.x.times: got 1, needed a list"),
        ({"inner": {"x": {"times": [1]}}}, "inner.x.pair: is missing"),
        ({"inner": {"x": {"times": [0], "pair": None}}}, "inner.x.times[0]: got 0, needed a num"),
        ({"inner": {"x": {"times": [], "pair": ["p", -1]}}}, "inner.x.pair[1]: got -1, needed a"),
        ({"inner": {"x": {"times": [], "pair": ["p"]}}}, "inner.x.pair: got ['p'], needed a list"),
        ({"sizes": [True, 1]}, "sizes[0]: got True, needed a whole number"),
        ({"sizes": [2**64, 1]}, "sizes[0]: got 18446744073709551616, needed a whole number"),
        ({"sizes": [1, float("nan")]}, "sizes[1]: got nan, needed a number"),
        ({"sizes": [1, 1e300]}, "sizes[1]: got 1e+300, needed a number"),
        ({"sizes": [1, 1e-300]}, "sizes[1]: got 1e-300, needed a number"),
        ({"more": 0.5}, "more: got 0.5, needed text or a whole number"),
        ({"odd": 4}, "odd is even"),
        ({"odd": 1}, "odd: got 1, needed a number above 2"),
        ({"extra": 1}, "extra: is not known"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(change, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        read(Outer, {**WHOLE, **change})


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff\xfe\xfd", "1" * 5000])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse(text)
