"""Ranking programs that were compiled and not run, by what their compiler says.

On a TPU that is the compiler's own estimate of cycles, elsewhere the bytes that the program
accesses. Both order programs; neither is a time. Of bytes it is known how well they do that on a
GPU; of cycles on a TPU it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tdjax.comparison import numbers
from tdjax.comparison.verdicts.entry import Entry
from tdjax.comparison.verdicts.metric import BYTES, CYCLES, figure, metric_of, shown
from tdjax.devices.compiled_result import LEVEL, ORDERED


class Ranking(NamedTuple):
    """What a verdict says of a compiled group; see `Verdict`."""

    kind: str
    leader: str | None
    tied: tuple[str, ...]
    text: str
    metric: str
    saving: float | None


def rank(entries: Sequence[Entry], reference: str) -> Ranking:
    """Return who leads, and by which figure."""
    metric = metric_of(entries)
    compiled = [entry for entry in entries if entry.status == "ok"]
    found = {entry.strategy: figure(entry, metric) for entry in compiled}
    figures = {name: value for name, value in found.items() if value is not None}
    known = [entry for entry in compiled if entry.strategy in figures]
    if not known:
        text = "nothing was compiled" if not compiled else "no figure is known to rank by"
        return Ranking("none", None, (), text, metric, None)
    leader = min(known, key=lambda entry: figures[entry.strategy])
    twins = [entry.strategy for entry in known if entry.same_as == leader.strategy]
    rivals = [e for e in known if e is not leader and e.same_as is None]
    behind = {rival.strategy: _ratio(figures, rival, leader) for rival in rivals}
    tied = tuple(name for name, ratio in behind.items() if ratio <= LEVEL[metric])
    against = next((entry for entry in known if entry.strategy == reference), None)
    saving = None if against is None else _ratio(figures, against, leader)
    amount = shown(figures[leader.strategy], metric)
    text = _sentence(leader.strategy, twins, tied, behind, amount, metric)
    if saving is not None and reference not in (leader.strategy, *twins, *tied, *_next(behind)):
        text += f"; {reference} {_MORE[metric].format(saving)}"
    if metric == BYTES and leader.target.startswith("gpu:") and rivals:
        text += f" ({ORDERED})"
    unknown = [entry.strategy for entry in compiled if entry not in known]
    if unknown:
        text += f"; without this figure, and not ranked: {', '.join(unknown)}"
    return Ranking("level" if tied else "win", leader.strategy, tied, text, metric, saving)


_MORE = {CYCLES: "takes {:.2f}x as many", BYTES: "moves {:.2f}x as much"}


def _sentence(
    leader: str,
    twins: Sequence[str],
    tied: Sequence[str],
    behind: Mapping[str, float],
    amount: str,
    metric: str,
) -> str:
    lead = " = ".join([leader, *twins])
    if not behind:
        if twins:
            return f"{lead}: the compiler made the same program of them"
        return f"{lead}: nothing else to rank it against"
    if tied:
        names = numbers.join([lead, *tied])
        what = "cycles, as the compiler estimates" if metric == CYCLES else "bytes that they move"
        return f"{names} are level in {what}: {amount}"
    (runner_up,) = _next(behind)
    less = _MORE[metric].format(behind[runner_up])
    if metric == CYCLES:
        return (
            f"{lead} leads by the compiler's estimate, {amount}; next is {runner_up}, which {less}"
        )
    return f"{lead} moves least, {amount}; next is {runner_up}, which {less}"


def _next(behind: Mapping[str, float]) -> tuple[str, ...]:
    return (min(behind, key=lambda name: behind[name]),) if behind else ()


def _ratio(figures: Mapping[str, float], entry: Entry, leader: Entry) -> float:
    return figures[entry.strategy] / max(figures[leader.strategy], 1)
