"""Why two strategies differ: what moves data in one's program and not in the other's.

One sentence for each place in the user's code, the largest difference first; only what the
optimized programs show is said.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from tdjax.comparison import numbers
from tdjax.comparison.hlo import Movement, Place
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.metric import figure
from tdjax.comparison.verdicts.verdict import Verdict

MOST = 6
_SMALL = 0.005
_TOLD = 2


def why(first: Entry, second: Entry, most: int = MOST) -> tuple[str, ...]:
    """Return sentences on what one program does and the other does not.

    Args:
        first: an entry.
        second: another one of the same group.
        most: how many sentences to return at most.
    """
    for entry in (first, second):
        if entry.movements is None:
            reason = naming.reason(entry) or "its operations were not kept"
            return (f"{naming.short(entry.strategy)}: nothing is known of its program ({reason}).",)
    names = naming.short(first.strategy), naming.short(second.strategy)
    if first.program is not None and first.program == second.program:
        return (f"{names[0]} and {names[1]}: the compiler made the same program of both.",)
    differences = _differences(first.movements or (), second.movements or ())
    totals = _totals(first, second)
    largest = max(first.bytes_accessed or 0, second.bytes_accessed or 0)
    told = [each for each in differences if each.size >= _SMALL * largest][: most - 1]
    sentences = [totals, *(each.sentence(*names) for each in told)]
    if not differences:
        sentences.append(
            f"{names[0]} and {names[1]} move data by the same operations; the difference is in "
            "what is computed, and in how it is fused."
        )
    elif not told:
        sentences.append(
            "What moves data differs by less than 1% of that; no operation explains it."
        )
    return tuple(sentences)


def of_verdict(
    entries: Sequence[Entry], verdict: Verdict, reference: str, most: int
) -> tuple[str, ...]:
    """Return why the leader leads: over the reference, or over the next if it is the reference.

    Empty where there is no win.
    """
    leader = next((entry for entry in entries if entry.strategy == verdict.leader), None)
    if verdict.kind != "win" or leader is None:
        return ()
    rivals = [e for e in entries if e.status == "ok" and e.program != leader.program]
    against = [entry for entry in rivals if entry.strategy == reference]
    against += sorted(rivals, key=lambda entry: _rank(entry, verdict.metric))
    if not against or leader.movements is None:
        return ()
    return why(leader, against[0], most)


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
    """What moves data at one place: in the first program only, and in the second only."""

    def __init__(self, place: Place, first: Sequence[Movement], second: Sequence[Movement]) -> None:
        self._place = place
        self._sides = first, second
        if any(movement.bytes is None for side in self._sides for movement in side):
            self.size = math.inf  # Unknown, so it must not be left out as small.
            return
        sizes = [sum(movement.bytes or 0 for movement in side) for side in self._sides]
        # Equal amounts in another order are a difference too, though a small one.
        self.size = max(abs(sizes[0] - sizes[1]), 0.1 * max(sizes))

    def sentence(self, *names: str) -> str:
        """Return it in words."""
        said = [
            f"{name} {_phrases(side)}"
            for name, side in zip(names, self._sides, strict=True)
            if side
        ]
        said += [f"{n} has none" for n, side in zip(names, self._sides, strict=True) if not side]
        return f"{_label(self._place)}: {'; '.join(said)}."


def _differences(first: Iterable[Movement], second: Iterable[Movement]) -> list[_Difference]:
    ours, theirs = Counter(first), Counter(second)
    only = list((ours - theirs).elements()), list((theirs - ours).elements())
    places = dict.fromkeys(movement.place for side in only for movement in side)
    found = [
        _Difference(place, *([m for m in side if m.place == place] for side in only))
        for place in places
    ]
    return sorted(found, key=lambda difference: -difference.size)


def _label(place: Place) -> str:
    if place.around:
        return "around the steps" + (", backward" if place.backward else "")
    if place.op is None:
        return "added by the compiler"
    if place.op == "input":
        return "the inputs"
    what = f"gradient of {place.op}" if place.backward else place.op
    layer = "" if place.layer is None else f" in {place.layer}"
    return what + layer + ("" if place.source is None else f" ({place.source})")


def _phrases(side: Sequence[Movement]) -> str:
    """Return the largest of them in words, and how many there are besides."""
    first = sorted(side, key=lambda movement: -(movement.bytes or 0))
    floor = _SMALL * (first[0].bytes or 0)
    told = [each for each in first if (each.bytes or 0) >= floor][:_TOLD]
    rest = len(first) - len(told)
    more = [f"{rest} smaller"] if rest else []
    return ", and ".join([*map(_phrase, told), *more])


def _phrase(movement: Movement) -> str:
    """Return what a movement does: "moves time before batch, 2 transposes of 103 MB"."""
    amount = numbers.memory(movement.bytes) + ("" if movement.count == 1 else " in all")
    if movement.kind == "loop":
        times = "an unknown number of" if movement.count is None else movement.count
        over = "" if movement.bytes is None else f" over {numbers.memory(movement.bytes)} in all"
        return f"runs a loop {times} {'time' if times == 1 else 'times'}{over}"
    if movement.kind == "transpose":
        verb = "moves" if movement.what.endswith(("batch", "time")) else "reorders"
        return f"{verb} {movement.what}, {_counted(movement, 'transpose')} of {amount}"
    if movement.kind == "custom call":
        return f"has {_counted(movement, 'call')} of {movement.what}, {amount}"
    noun = {"copy": "copy", "collective": movement.what}.get(movement.kind, movement.kind)
    return f"has {_counted(movement, noun)} of {amount}"


def _counted(movement: Movement, noun: str) -> str:
    if movement.count is None:
        return f"an unknown number of {_plural(noun)}"
    return f"{movement.count} {noun if movement.count == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("py") else f"{noun}s"
