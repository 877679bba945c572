"""What was decided for a call, and how others learn of it."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from tdjax.core.call import Call
from tdjax.core.recent import Recent
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
        gradient: what runs where the call is differentiated, if that was decided by itself.
    """

    call: Call
    strategy: Strategy
    reason: str
    proven: Proven | None = None
    work: Work | None = None
    predicted: Sequence[Candidate] = ()
    packing: PackingChoice | None = None
    measured: Measured | None = None
    gradient: Decision | None = None

    def in_mode(self, mode: str) -> Decision:
        """Return what runs in mode "forward" or "grad"."""
        return self.gradient if mode == "grad" and self.gradient is not None else self

    def instead(self, other: Decision) -> Decision:
        """Return the same decision for the strategy of another one."""
        ordered = sorted(self.predicted, key=lambda each: each.strategy != other.strategy)
        return dataclasses.replace(
            self, strategy=other.strategy, proven=other.proven, predicted=ordered
        )

    def run(self) -> Any:
        """Run the call."""
        arrays, gradient = [*self.call.leaves, self.call.mask], self.in_mode("grad")
        if gradient.strategy == self.strategy:
            return self._on(arrays)
        from tdjax.strategies.choosing.directions import run_apart  # needs jax.extend, 20 ms

        return run_apart(arrays, self._on, gradient._on)

    def _on(self, arrays: Sequence[Any]) -> Any:
        """Run the call on its leaves and its mask."""
        *leaves, mask = arrays
        call = self.call.replace(leaves=tuple(leaves), mask=mask)
        return call.finish(self.strategy.run(call, self.proven))


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
    elif not somebody_listens():  # `explain` and `compare` only ask
        _log(decision)
    tell_of(decision)


def _log(decision: Decision) -> None:
    """Say a decision, once for each program."""
    if not _LOGGER.isEnabledFor(logging.DEBUG):
        return
    call, gradient = decision.call, decision.in_mode("grad")
    said = f"{decision.strategy}. {decision.reason}"
    if gradient.strategy != decision.strategy:
        said += f" With gradients {gradient.strategy}. {gradient.reason}"
    sizes = f"{call.batch} x {call.time} rows" if call.batch is not None else f"{call.time} steps"
    leaves = tuple((leaf.shape, str(leaf.dtype)) for leaf in call.leaves)
    program = call.traced.key if call.traced is not None else None
    _said.made((call.title, sizes, leaves, program, said), lambda: _say(call.title, sizes, said))


def _say(title: str, sizes: str, said: str) -> bool:
    _LOGGER.debug("%s, %s: %s", title, sizes, said)
    return True


_LOGGER = logging.getLogger("tdjax")
_said: Recent[bool] = Recent(4096)


def tell_of(decision: Decision) -> None:
    """Tell a decision to who listens; see `tdjax.core.sites`."""
    if not somebody_listens():
        return
    call, strategy = decision.call, decision.strategy
    whole = not strategy.folds or strategy.packs or call.batch is None
    tell(decision, call.batch if whole else strategy.rows_at_once(call))


def run_as_asked(strategy: Strategy, call: Call, reason: str = "It was asked for.") -> Any:
    """Run a call under the strategy of its caller, and say why to who listens."""
    if somebody_listens() and not strategy.decides:  # one that decides says so itself
        tell_of(Decision(call, strategy, reason))
    return strategy.run(call)
