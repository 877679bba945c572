"""What was decided for a call, and how others learn of it."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from tdjax.core.call import Call
from tdjax.core.sites import somebody_listens, tell
from tdjax.costs.work import Work
from tdjax.independence import Proven
from tdjax.strategies.base import Strategy
from tdjax.strategies.choosing.measured import Measured
from tdjax.strategies.choosing.packing import PackingChoice
from tdjax.strategies.choosing.ranking import Candidate


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """What `auto` chose for a call, or the caller did.

    Attributes:
        call: the call, with its trace.
        strategy: what runs.
        reason: why, a sentence.
        proven: what is known of its rows; None where that was not asked.
        work: what a row costs; None where nothing had to be predicted.
        predicted: how long strategies are predicted to take, this one first.
        packing: whether packing its steps pays; None where they cannot be packed.
        measured: what tuning has measured, if it has.
    """

    call: Call
    strategy: Strategy
    reason: str
    proven: Proven | None = None
    work: Work | None = None
    predicted: Sequence[Candidate] = ()
    packing: PackingChoice | None = None
    measured: Measured | None = None

    def run(self) -> Any:
        """Run the call."""
        return self.call.finish(self.strategy.run(self.call, self.proven))


_recorded: contextvars.ContextVar[list[Decision] | None] = contextvars.ContextVar(
    "decisions", default=None
)


@contextlib.contextmanager
def recorded() -> Iterator[list[Decision]]:
    """Collect the decisions of what is traced inside, in their order."""
    decisions: list[Decision] = []
    token = _recorded.set(decisions)
    try:
        yield decisions
    finally:
        _recorded.reset(token)


def record(decision: Decision) -> None:
    """Tell a decision of `auto` to the innermost `recorded()`, if there is one."""
    decisions = _recorded.get()
    if decisions is not None:
        decisions.append(decision)
    tell_of(decision)


def tell_of(decision: Decision) -> None:
    """Tell a decision to who listens; see `tdjax.core.sites`."""
    call, strategy = decision.call, decision.strategy
    whole = not strategy.folds or strategy.packs or call.batch is None
    tell(decision, call.batch if whole else strategy.rows_at_once(call))


def run_as_asked(strategy: Strategy, call: Call, reason: str = "It was asked for.") -> Any:
    """Run a call under the strategy of its caller, and say why to who listens."""
    if somebody_listens() and not strategy.decides:  # one that decides says so itself
        tell_of(Decision(call, strategy, reason))
    return strategy.run(call)
