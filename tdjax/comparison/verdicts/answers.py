"""What a person asks of a group: vmap or fold? leave `auto` on? which is the fastest?

Every answer is a ratio of speeds, more is better: the median of ratios that are paired by round,
with its interval. It is computed from the samples alone, so that old files have answers too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, quantiles
from typing import Any

from tdjax.comparison import numbers
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.compiled_ranking import rank
from tdjax.comparison.verdicts.entry import Entry, Group, grouped
from tdjax.comparison.verdicts.intervals import SAME, Interval
from tdjax.comparison.verdicts.standing import MIN_ROUNDS, Front, Speed, front, speed

FOLD, AUTO, FASTEST = "fold", "auto", "fastest"
QUESTIONS = {FOLD: "vmap or fold?", AUTO: "leave auto on?", FASTEST: "the fastest?"}
NOISY = 0.25
_CLOSE = 0.03
_SHOWN = 0.0005  # "0.1%"


@dataclass(frozen=True)
class Answer:
    """What the samples of one group say.

    Attributes:
        workload, target, evidence, mode: the group.
        kind: "win" (one program is clearly the fastest), "level" (several are, and cannot be told
            apart), "unclear" (nothing asked can be said yet) or "none" (nothing ran).
        fastest: the strategies that cannot be told apart from the leader, which comes first, and
            those that are the same program as one of them.
        apart: how far apart two of the fastest can be at most, as a share: 0.12 is 12%.
        fold_over_vmap: how many times as fast `fold` is as the reference, with `low` and `high`;
            None where one of them was not measured.
        auto_over_vmap: the same of `auto`.
        auto_behind_best: the share of the best measured speed that `auto` leaves, 0 if it is the
            best; `high` bounds what any other could be ahead by.
        speedup: how many times as fast the leader is as the reference.
        open: the questions that more rounds could still answer, of "fold", "auto" and "fastest".
        said: a sentence for each question that has an answer.
        advice: what would make it clear; None where nothing is needed.
        metric: what the ranking is by: "time" where samples were taken; in a compiled group
            "estimated_cycles" or "bytes_accessed", which are not times: there are no speeds.
        saving: in a compiled group, the reference's figure over the leader's.
    """

    workload: str
    target: str
    evidence: str
    mode: str
    kind: str
    fastest: tuple[str, ...] = ()
    apart: float | None = None
    fold_over_vmap: Interval | None = None
    auto_over_vmap: Interval | None = None
    auto_behind_best: Interval | None = None
    speedup: Interval | None = None
    open: tuple[str, ...] = ()
    said: dict[str, str] = field(default_factory=dict)
    advice: str | None = None
    metric: str = "time"
    saving: float | None = None

    @property
    def group(self) -> Group:
        """The entries that this is about."""
        return Group(self.workload, self.target, self.evidence, self.mode)

    @property
    def clear(self) -> bool:
        """Whether something that was asked can be said."""
        return self.kind in ("win", "level")

    @property
    def leader(self) -> str | None:
        """The fastest strategy, or the one with the smallest figure of `metric`."""
        return self.fastest[0] if self.fastest else None

    def leads(self, entry: Entry) -> bool:
        """Whether the entry is among the fastest; none is where nothing is clear."""
        return self.clear and entry.strategy in self.fastest

    @property
    def text(self) -> str:
        """The sentence on the fastest."""
        return self.said.get(FASTEST, "nothing ran to the end")

    def names(self, most: int = 3) -> str:
        """Return the fastest in words, the names of so many at most."""
        return _listed(list(map(naming.short, self.fastest)), most)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        values = asdict(self)
        intervals = {n: each._asdict() for n, each in vars(self).items() if type(each) is Interval}
        lists = {"fastest": list(self.fastest), "open": list(self.open), "clear": self.clear}
        return {**values, **intervals, **lists}


def answers(entries: Iterable[Entry], reference: str = "vmap") -> tuple[Answer, ...]:
    """Return the answers of every group of entries, in their order."""
    return tuple(
        _of_compiled(group, rows, reference)
        if group.evidence == "compiled"
        else _Group(rows, reference).answer(group)
        for group, rows in grouped(entries).items()
    )


def summary(found: Sequence[Answer], reference: str = "vmap") -> str:
    """Return one sentence on a whole run: how `auto` did, or `fold` where `auto` did not run."""
    measured = [each for each in found if each.evidence == "measured"]
    said = []
    for name, key in ((AUTO, "auto_over_vmap"), (FOLD, "fold_over_vmap")):
        ratios = [getattr(each, key) for each in measured if getattr(each, key) is not None]
        if ratios:
            said.append(f"{name}: {_overall(ratios, reference)}{_behind(measured, name)}")
            break
    clear = [each for each in measured if each.clear]
    if clear and not said:
        leaders = [f"{each.names()} in {_where(each, measured)}" for each in clear]
        said.append(f"fastest: {_listed(leaders)}")
    unclear = [_where(each, measured) for each in measured if not each.clear]
    if unclear and len(unclear) == len(measured):
        said.append("nothing is clear yet")
    elif unclear:
        said.append(f"unclear: {_listed(unclear)}")
    compiled = [each for each in found if each.evidence == "compiled"]
    if compiled:
        said.append(_of_devices(compiled))
    return "; ".join(said) or "nothing was compared"


def _overall(ratios: Sequence[Interval], reference: str) -> str:
    values = [ratio.value for ratio in ratios]
    if len(values) == 1:
        return f"{numbers.speed_interval(*ratios[0], of=reference)}"
    mean = math.exp(fmean(map(math.log, values)))
    ends = f"{numbers.digits(min(values))} to {numbers.digits(max(values))}"
    many = f"over {len(values)} groups (geometric mean; {ends})"
    return f"{numbers.speed(mean)} {reference} {many}"


def _behind(measured: Sequence[Answer], name: str) -> str:
    behind = [e.auto_behind_best.value for e in measured if e.auto_behind_best is not None]
    if name != AUTO or not behind:
        return ""
    if len(behind) == 1:
        share = numbers.share(behind[0])
        return f", {share} behind the best measured" if behind[0] else ", the best measured"
    close = sum(share <= _CLOSE for share in behind)
    return f", at most {numbers.share(_CLOSE)} behind the best measured in {close}"


def _listed(names: Sequence[str], most: int = 4) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _where(answer: Answer, measured: Sequence[Answer]) -> str:
    several = len({each.target for each in measured}) > 1
    # A comma in a name would not be told from those of the list.
    name = answer.workload.replace(",", "")
    return f"{name} {answer.mode}" + (f" on {answer.target}" if several else "")


def _of_devices(compiled: Sequence[Answer]) -> str:
    names = [name for each in compiled for name in each.fastest]
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    first = sorted(counts.items(), key=lambda pair: -pair[1])[:3]
    least = ", ".join(f"{naming.short(name)} in {count}" for name, count in first)
    groups = "1 group" if len(compiled) == 1 else f"{len(compiled)} groups"
    return f"compiled, least cycles or bytes of {groups}: {least or 'not known'}"


def _of_compiled(group: Group, entries: Sequence[Entry], reference: str) -> Answer:
    found = rank(entries, reference)
    names = () if found.leader is None else (found.leader, *found.tied)
    names += tuple(entry.strategy for entry in entries if entry.same_as in names)
    said = {FASTEST: naming.short(found.text)}
    return Answer(*group, found.kind, names, said=said, metric=found.metric, saving=found.saving)


class _Group:
    """The entries of one measured group, while they are asked."""

    def __init__(self, entries: Sequence[Entry], reference: str) -> None:
        self._reference = reference
        self._entries = [entry for entry in entries if not entry.control]
        self._ran = {entry.strategy: entry for entry in self._entries if entry.measured}
        self._controls = [entry for entry in entries if entry.control and entry.measured]
        self._runs = {**self._ran, **{entry.strategy: entry for entry in self._controls}}

    def answer(self, group: Group) -> Answer:
        """Return the answers."""
        if not self._ran:
            return Answer(*group, "none")
        found = self._front()
        leader = found.members[0]
        said = {
            FOLD: self._sentence(FOLD, self._speed(FOLD)),
            AUTO: self._sentence(AUTO, self._speed(AUTO)),
            FASTEST: self._fastest(found),
        }
        doubt = self._doubt()
        asked = {name: pair for name in (FOLD, AUTO) if (pair := self._speed(name)) is not None}
        open_ = [name for name, pair in asked.items() if not pair.closed]
        open_ += [] if found.closed else [FASTEST]
        open_ = [*asked, FASTEST] if doubt else open_
        # Which is fastest may be clear where the three that are asked for are not.
        undecided = set(asked) <= set(open_) and (
            FASTEST in open_ or (bool(asked) and self._reference in self._names(found.members))
        )
        kind = "unclear" if undecided else "level" if len(found.members) > 1 else "win"
        lead = self._speed(leader)
        return Answer(
            *group,
            kind,
            self._names(found.members),
            found.apart - 1 if math.isfinite(found.apart) else None,
            fold_over_vmap=asked[FOLD].ratio if FOLD in asked else None,
            auto_over_vmap=asked[AUTO].ratio if AUTO in asked else None,
            auto_behind_best=self._behind_best(),
            speedup=SAME if leader == self._reference else lead and lead.ratio,
            open=tuple(open_),
            said={name: sentence for name, sentence in said.items() if sentence},
            advice=doubt or self._advice(found) if kind == "unclear" else None,
        )

    def _front(self) -> Front:
        """Return the fastest among distinct programs; a control counts where nothing else ran."""
        own = {name: e.samples_s for name, e in self._ran.items() if self._first(e) is e}
        if len(self._ran) == 1:
            own = {name: entry.samples_s for name, entry in self._runs.items()}
        found = front(own)
        # The reference comes before its control.
        members = sorted(found.members, key=lambda name: name not in self._ran)
        return found._replace(members=tuple(members))

    def _first(self, entry: Entry) -> Entry:
        """Return the entry whose samples this one shares, or itself."""
        if entry.same_as is not None:
            return self._ran.get(entry.same_as, entry)
        same = (e for e in self._ran.values() if e.program == entry.program is not None)
        return next((other for other in same if other.same_as is None), entry)

    def _names(self, members: Sequence[str]) -> tuple[str, ...]:
        """Return these strategies and, behind each, those that are the same program."""
        twins: dict[str, None] = {}
        for member in members:
            twins[member] = None
            twins |= {n: None for n, e in self._ran.items() if self._first(e).strategy == member}
        return tuple(twins)

    def _speed(self, name: str, against: str | None = None) -> Speed | None:
        """Return how many times as fast one is as another, by default the reference."""
        own, other = self._ran.get(name), self._ran.get(against or self._reference)
        if own is None or other is None or own is other:
            return None
        if self._first(own) is self._first(other):
            return Speed(SAME, len(own.samples_s))
        return speed(own.samples_s, other.samples_s)

    def _over_auto(self) -> dict[str, Speed]:
        """Return how many times as fast as `auto` each other one is."""
        pairs = {name: self._speed(name, AUTO) for name in self._ran}
        return {name: pair for name, pair in pairs.items() if pair is not None}

    def _behind_best(self) -> Interval | None:
        ahead = [pair.ratio for pair in self._over_auto().values()]
        if not ahead:
            return None
        bounds = [[_share(end) for end in ratio if end is not None] for ratio in ahead]
        most = [max(0.0, *each) for each in zip([0.0] * 3, *bounds, strict=False)]
        return Interval(most[0], *(most[1:] or (None, None)))

    def _sentence(self, name: str, pair: Speed | None) -> str:
        """Return how `fold` or `auto` does against the reference, and what `auto` leaves."""
        if pair is None:
            return ""
        took = self._ran[name].chose if name == AUTO else None
        subject = f"{name} took {naming.short(took)}" if took else name
        text = f"{subject}: {_words(pair, self._reference)}"
        return text if name == FOLD else f"{text}; {self._left()}"

    def _left(self) -> str:
        """Return by how much something else is faster than `auto`."""
        known = self._over_auto()
        best = max(known, key=lambda name: known[name].ratio.value)
        if known[best].ahead:
            faster = numbers.speed_interval(*known[best].ratio)
            return f"{naming.short(best)} is {faster} as fast as auto"
        most = max((pair.ratio.high or math.inf) - 1 for pair in known.values())
        if not math.isfinite(most):
            return "more rounds would tell whether anything is faster"
        if most >= 1:
            return f"something may be up to {numbers.speed(1 + most)} as fast as auto"
        more = f"more than {numbers.share(most)} " if most >= _SHOWN else ""
        return f"nothing measured here is {more}faster"

    def _fastest(self, found: Front) -> str:
        leader, *others = found.members
        groups = [" = ".join(map(naming.short, self._names([m]))) for m in found.members]
        if others:
            apart = numbers.share(found.apart - 1) if math.isfinite(found.apart) else ""
            apart = numbers.speed(found.apart) if apart and found.apart >= 2 else apart
            rounds = _rounds(min(len(self._runs[name].samples_s) for name in found.members))
            said = f"within {apart} of each other"
            if not found.closed:
                said = f"not told apart in {rounds}" + (apart and f", at most {apart} apart")
            text = f"{', '.join(groups)}: {said}"
        elif found.next is None:
            return self._alone(groups[0])
        else:
            behind = speed(self._runs[found.next].samples_s, self._runs[leader].samples_s)
            slower = numbers.speed_interval(*behind.ratio, of="its speed")
            text = f"{groups[0]} leads; next is {naming.short(found.next)}, {slower}"
        # What fold and auto are over the reference is said by their own answers.
        if not {self._reference, FOLD, AUTO}.intersection(self._names([leader])):
            lead = self._speed(leader)
            more = numbers.speed_interval(*lead.ratio, of=self._reference) if lead else ""
            text += more and f"; {naming.short(leader)} is {more}"
        return text

    def _alone(self, lead: str) -> str:
        if " = " in lead:
            return f"{lead}: the compiler made the same program of them"
        return (
            f"{lead}: no other candidate ran to the end"
            if self._entries[1:]
            else f"{lead} ran alone"
        )

    def _doubt(self) -> str | None:
        """Return what a control that differs from the reference says of the samples."""
        for control in self._controls if self._reference in self._ran else ():
            pair = speed(control.samples_s, self._ran[self._reference].samples_s)
            if pair.ahead or pair.behind:
                return (
                    f"{control.strategy}: {numbers.speed_interval(*pair.ratio, self._reference)}, "
                    "the same program: free the machine of other work, then measure again"
                )
        return None

    def _advice(self, found: Front) -> str:
        """Return what helps: a quieter machine, or more rounds."""
        variation = max(_variation(entry.samples_s) for entry in self._runs.values())
        if variation > NOISY:
            return (
                f"samples of one program vary by {variation:.0%}: "
                "free the machine of other work, then measure again"
            )
        rounds = len(self._runs[found.members[0]].samples_s)
        more = max(4 * rounds, 20)
        return f"ask for more rounds than {rounds}: --rounds {more}, or rounds={more} in Python"


def _words(pair: Speed, reference: str) -> str:
    """Return a comparison in words: "1.90x vmap (1.60 to 2.06)", "level with vmap within 3%"."""
    if pair.ratio is SAME:
        return f"the same program as {reference}"
    if pair.level:
        return f"level with {reference} within {numbers.share(_CLOSE)}"
    if pair.closed:
        return numbers.speed_interval(*pair.ratio, of=reference)
    rounds = _rounds(pair.rounds)
    value, low, high = pair.ratio
    if low is None or high is None:
        return f"{numbers.speed(value)} {reference} in {rounds}: not told apart"
    if low > 1 or high < 1:
        ratio = numbers.speed_interval(*pair.ratio, of=reference)
        if low > 1 + _CLOSE or high < 1 / (1 + _CLOSE):
            return f"{ratio} in {rounds}, too few to be sure"
        return f"{ratio}, not clear by {numbers.share(_CLOSE)} in {rounds}"
    ends = f"{numbers.speed(low)} and {numbers.speed(high)} {reference}"
    return f"between {ends}, not told apart in {rounds}"


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"


def _share(ratio: float) -> float:
    """Return the share of a speed that one leaves, of which another is this many times as fast."""
    return 1 - 1 / ratio


def _variation(samples: Sequence[float]) -> float:
    """Return the interquartile range over the median."""
    if len(samples) < MIN_ROUNDS:
        return 0.0
    low, middle, high = quantiles(samples, n=4, method="inclusive")
    return (high - low) / middle
