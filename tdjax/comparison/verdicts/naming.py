"""How an entry is named, the same in tables, pictures and reports."""

from __future__ import annotations

import re

from tdjax.comparison.numbers import UNKNOWN
from tdjax.comparison.verdicts.entry import Entry
from tdjax.strategies import Strategy, parse

MODE_TITLES = {"forward": "forward", "grad": "forward + gradient"}


PARTITIONED = " (partitioned)"
"""What follows the name of a strategy that runs on every device's own block."""


def strategy_of(name: str) -> Strategy | None:
    """Return the strategy that an entry is named after, partitioned or not; None for a rival."""
    try:
        return parse(name.removesuffix(PARTITIONED))
    except ValueError:
        return None


def short(strategy: str) -> str:
    """Return a strategy's name without what can be left out: `Fold(32, unroll)`."""
    return strategy.replace("chunk_size=", "").replace("=True", "")


def parts(name: str) -> list[str]:
    """Return the parts of a name between which a line may be broken."""
    return re.findall("[^_.:,/ ]*[_.:,/ ]|[^_.:,/ ]+$", name)


def named(entry: Entry) -> str:
    """Return the strategy's short name, with what `auto` took and whose program it shares."""
    name = short(entry.strategy)
    if entry.chose not in (None, entry.same_as):
        name += f": {short(entry.chose or '')}"
    return name if entry.same_as is None else f"{name} = {short(entry.same_as)}"


def agreement(entry: Entry) -> str:
    """Return how far the answer is from the reference's."""
    if entry.max_rel_error is None:
        return UNKNOWN
    return "exact" if entry.max_rel_error == 0 else f"{entry.max_rel_error:.0e}"


def reason(entry: Entry) -> str:
    """Return why less is known of the entry than of the others."""
    if entry.error is None:
        return ""
    return f"failed: {entry.error}" if entry.status == "failed" else entry.error
