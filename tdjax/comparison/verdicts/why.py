"""Why two strategies differ: what moves data in one's program and not in the other's.

One sentence for each kind of operation, over all layers that have it, the largest difference
first; only what the optimized programs show is said.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tdjax.comparison import numbers
from tdjax.comparison.hlo import Movement, Place
from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.answers import Answer
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.intervals import paired_ratio
from tdjax.comparison.verdicts.metric import figure

MOST = 3
_SMALL = 0.005
_TOLD = 2
_LAYERS = 4
_ORDER = re.compile(r"\((.*)\) to \((.*)\) in memory")
_CONVOLUTION = "conv_general_dilated"
_OPERATIONS = {_CONVOLUTION: "convolution", "dot_general": "matrix product", "rev": "flip"}
# Those that come in numbers with others of the same layer, as in a norm.
_SMALLER = {
    "reduce_sum": "sum", "reduce_max": "maximum", "reduce_min": "minimum", "div": "division",
    "mul": "product", "add": "addition", "add_any": "addition", "sub": "difference",
    "rsqrt": "inverse square root", "sqrt": "square root", "exp": "exponential", "max": "maximum",
    "integer_pow": "power", "square": "square", "select_n": "selection",
}  # fmt: skip
_WINDOW = 15


def why(
    first: Entry,
    second: Entry,
    most: int = MOST,
    ceilings: Ceilings | None = None,
    slower: bool = False,
) -> tuple[str, ...]:
    """Return sentences on what both programs take, and on what one does and the other does not.

    Args:
        first: an entry.
        second: another one of the same group.
        most: how many differences to tell at most.
        ceilings: of their device, to say what a difference is in time.
        slower: whether to tell only what makes the first slower.
    """
    for entry in (first, second):
        if entry.movements is None:
            reason = naming.reason(entry) or "its operations were not kept"
            return (f"{naming.short(entry.strategy)}: nothing is known of its program ({reason}).",)
    names = naming.short(first.strategy), naming.short(second.strategy)
    if first.program is not None and first.program == second.program:
        return (f"{names[0]} and {names[1]}: the compiler made the same program of both.",)
    differences = _differences(first.movements or (), second.movements or ())
    largest = max(first.bytes_accessed or 0, second.bytes_accessed or 0)
    told = [each for each in differences if each.size >= _SMALL * largest]
    if slower and told:
        told = [each for each in told if each.burdens]
        differences = told
    told = told[:most]
    sentences = [_totals(first, second)]
    for each in told:
        sentences.append(f"{each.sentence(*names)}{_in_time(each, first, second, ceilings)}.")
    if not differences:
        alike = f"{names[0]} and {names[1]} move data by the same operations"
        alike = f"{names[0]} moves no data that {names[1]} does not" if slower else alike
        how = "the difference is in what is computed, and in how it is fused"
        sentences.append(f"{alike}; {how}.")
    elif not told:
        sentences.append(
            f"No operation explains it: what moves data in {names[0]} and {names[1]} differs by "
            "less than 1% of their bytes."
        )
    return tuple(sentences)


def of_answer(
    entries: Sequence[Entry],
    answer: Answer,
    reference: str,
    ceilings: Ceilings | None = None,
    most: int = MOST,
) -> tuple[str, ...]:
    """Return why the leader is faster than the reference, or than the next if it is the reference.

    Empty where nothing is clearly faster. The totals, which tables have, are left out.
    """
    by_name = {entry.strategy: entry for entry in entries}
    if not answer.clear or reference in answer.fastest[1:] or answer.leader not in by_name:
        return ()
    leader = by_name[answer.leader]
    rivals = [e for e in entries if e.status == "ok" and e.program != leader.program]
    rivals = [e for e in rivals if e.strategy not in answer.fastest and not e.control]
    against = [entry for entry in rivals if entry.strategy == reference]
    against += sorted(rivals, key=lambda entry: _rank(entry, answer.metric))
    if not against or leader.movements is None:
        return ()
    return why(against[0], leader, most, ceilings, slower=True)[1:]


def _rank(entry: Entry, metric: str) -> float:
    value = figure(entry, metric)
    return float("inf") if value is None else value


def _totals(first: Entry, second: Entry) -> str:
    parts = []
    for entry in (first, second):
        known = [
            numbers.memory(None if entry.bytes_accessed is None else int(entry.bytes_accessed))
        ]
        if entry.flops is not None:
            known.append(f"{numbers.count(entry.flops)}FLOP")
        if entry.estimated_cycles is not None:
            known.append(f"{numbers.count(entry.estimated_cycles)} estimated cycles")
        parts.append(f"{naming.short(entry.strategy)} accesses {', '.join(known)}")
    return "; ".join(parts) + "."


class _Difference:
    """What moves data in the layers of one kind: in the first program only, and in the second."""

    def __init__(self, places: Sequence[Place], first: list[Movement], second: list[Movement]):
        self.places = places
        self.sides = first, second
        if any(movement.bytes is None for side in self.sides for movement in side):
            self.size = math.inf  # Unknown, so it must not be left out as small.
            return
        sizes = [sum(movement.bytes or 0 for movement in side) for side in self.sides]
        # Equal amounts in another order are a difference too, though a small one.
        self.size = max(abs(sizes[0] - sizes[1]), 0.1 * max(sizes))

    @property
    def kind(self) -> tuple[object, ...]:
        """What layers must share to be told in one sentence."""
        place = self.places[0]
        done = tuple(frozenset(map(_verb, side)) for side in self.sides)
        op = "smaller" if place.op in _SMALLER else place.op
        return op, place.backward, place.around, place.layer is None, done

    @property
    def more(self) -> int:
        """The bytes that the first moves more than the second; what loops hold moves or not."""
        first, second = (
            sum(movement.bytes or 0 for movement in side if movement.kind != "loop")
            for side in self.sides
        )
        return first - second

    @property
    def burdens(self) -> bool:
        """Whether the first moves more, or alone runs a loop."""
        loops = [any(movement.kind == "loop" for movement in side) for side in self.sides]
        return self.more > 0 or not math.isfinite(self.size) or loops == [True, False]

    def sentence(self, *names: str) -> str:
        """Return it in words."""
        said = [
            f"{name} {_phrases(side)}" for name, side in zip(names, self.sides, strict=True) if side
        ]
        said += [f"{n} has none" for n, side in zip(names, self.sides, strict=True) if not side]
        return f"{_label(self.places, _window(self.sides))}: {'; '.join(said)}"


def _differences(first: Iterable[Movement], second: Iterable[Movement]) -> list[_Difference]:
    ours, theirs = Counter(first), Counter(second)
    only = list((ours - theirs).elements()), list((theirs - ours).elements())
    alike: dict[object, _Difference] = {}
    for place in dict.fromkeys(movement.place for side in only for movement in side):
        found = _Difference([place], *([m for m in side if m.place == place] for side in only))
        if (known := alike.get(found.kind)) is not None:
            sides = (a + b for a, b in zip(known.sides, found.sides, strict=True))
            found = _Difference([*known.places, place], *sides)
        alike[found.kind] = found
    return sorted(alike.values(), key=lambda difference: -difference.size)


def _in_time(
    difference: _Difference, first: Entry, second: Entry, ceilings: Ceilings | None
) -> str:
    """Return how long what the slower one moves more takes, at the most that memory gives."""
    if ceilings is None or not first.measured or not second.measured or first.median_s is None:
        return ""
    between = first.median_s * (1 - paired_ratio(second.samples_s, first.samples_s).value)
    more = difference.more * math.copysign(1, between)
    if more <= 0:
        return ""
    seconds, apart = more / ceilings.bytes_per_s, abs(between)
    whole = numbers.seconds(apart, numbers.trimmed)
    if seconds >= apart:
        return f": as much as all of the {whole} between them"
    return f": about {numbers.seconds(seconds, numbers.trimmed)} of the {whole} between them"


def _label(places: Sequence[Place], window: str) -> str:
    place = places[0]
    if place.around:
        return "around the steps" + (", backward" if place.backward else "")
    if place.op is None:
        return "added by the compiler"
    if place.op == "input":
        return "the inputs"
    layers = list(dict.fromkeys(each.layer for each in places if each.layer is not None))
    ops = dict.fromkeys(each.op or "" for each in places)
    known = list(dict.fromkeys((_OPERATIONS | _SMALLER).get(op, op) for op in ops))
    if len(places) > 1:
        known = [noun if noun in ("maximum", "minimum") else f"{noun}s" for noun in known]
    what = window + numbers.join(known)
    what = f"the {what}" if len(places) > 1 else what
    what = f"gradient of {what}" if place.backward else what
    of = f" of {_listed(_distinct(layers))}" if layers else ""
    sources = list(dict.fromkeys(_relative(each.source) for each in places if each.source))
    return what + of + (f" ({_listed(sources, 2)})" if sources else "")


def _window(sides: Iterable[Sequence[Movement]]) -> str:
    """Return the size of the kernels that convolutions move, "3x3 ", where it is one size."""
    found = set()
    for movement in (movement for side in sides for movement in side):
        if movement.place.op == _CONVOLUTION and (order := _ORDER.fullmatch(movement.what)):
            sizes = sorted(int(size) for size in order[1].split(",") if size.isdecimal())
            found.add(tuple(sizes[:-2]) if len(sizes) > 2 else (1, 1))
    if len(found) != 1 or not 0 < max(window := found.pop(), default=0) <= _WINDOW:
        return ""
    return "x".join(map(str, window)) + " "


def _distinct(layers: Sequence[str]) -> list[str]:
    """Return paths of layers without the end that all of them share."""
    parts = [layer.split("/") for layer in layers]
    while len(parts) > 1 and all(len(p) > 1 for p in parts) and len({p[-1] for p in parts}) == 1:
        parts = [part[:-1] for part in parts]
    return list(dict.fromkeys("/".join(part) for part in parts))


def _listed(names: Sequence[str], most: int = _LAYERS) -> str:
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def _relative(source: str) -> str:
    """Return a line of code with its path from the working folder, where it is below it."""
    here = os.getcwd() + os.sep
    return source.removeprefix(here)


def _phrases(side: Sequence[Movement]) -> str:
    """Return the largest kinds of them in words, and how many there are besides."""
    alike: dict[tuple[str, str], Movement] = {}
    for movement in side:
        known = alike.get(_verb(movement))
        alike[_verb(movement)] = movement if known is None else _sum(known, movement)
    first = sorted(alike.items(), key=lambda pair: -(pair[1].bytes or 0))
    floor = _SMALL * (first[0][1].bytes or 0)
    told = [(verb, all_) for verb, all_ in first if (all_.bytes or 0) >= floor][:_TOLD]
    rest = len(first) - len(told)
    more = [f"{rest} smaller"] if rest else []
    return ", and ".join([*(_phrase(verb, all_) for verb, all_ in told), *more])


def _sum(one: Movement, other: Movement) -> Movement:
    count = None if one.count is None or other.count is None else one.count + other.count
    size = None if one.bytes is None or other.bytes is None else one.bytes + other.bytes
    return Movement(one.kind, one.what, one.place, count, size)


def _verb(movement: Movement) -> tuple[str, str]:
    """Return the kind of a movement and what it does, the same for layers of other sizes."""
    if movement.kind != "transpose":
        return movement.kind, movement.what if movement.kind != "copy" else ""
    order = _ORDER.fullmatch(movement.what)
    if order is None:
        return movement.kind, f"moves {movement.what}"
    before, after = order.groups()
    named = any(name in before for name in ("batch", "time", "rows"))
    if not named and movement.place.op in (_CONVOLUTION, "rev"):
        return movement.kind, "reorders kernels"
    if not named and movement.place.op == "dot_general":
        return movement.kind, "reorders weights"
    if before == after:  # Two axes of one size changed places.
        return movement.kind, f"reorders ({before}) in memory"
    return movement.kind, f"reorders {movement.what}"


def _phrase(verb: tuple[str, str], movement: Movement) -> str:
    """Return what a movement does: "moves time before batch, 2 transposes of 103 MB"."""
    kind, what = verb
    amount = numbers.memory(movement.bytes) + ("" if movement.count == 1 else " in all")
    if kind == "loop":
        times = "an unknown number of" if movement.count is None else movement.count
        over = "" if movement.bytes is None else f" over {numbers.memory(movement.bytes)} in all"
        return f"runs a loop {times} {'time' if times == 1 else 'times'}{over}"
    if kind == "transpose":
        return f"{what}, {_counted(movement, 'transpose')} of {amount}"
    if kind == "custom call":
        return f"has {_counted(movement, 'call')} of {what}, {amount}"
    return f"has {_counted(movement, what if kind == 'collective' else kind)} of {amount}"


def _counted(movement: Movement, noun: str) -> str:
    if movement.count is None:
        return f"an unknown number of {_plural(noun)}"
    return f"{movement.count} {noun if movement.count == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("py") else f"{noun}s"
