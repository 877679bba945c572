"""The strategy that picks one of the others."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from tdjax.core.arrays import is_symbolic
from tdjax.core.call import Call, Program, trace
from tdjax.costs.machine import current_machine
from tdjax.costs.work import Work, work_of
from tdjax.independence import CONST, Proven, prove
from tdjax.strategies.base import Strategy
from tdjax.strategies.choosing import tuned
from tdjax.strategies.choosing.candidates import candidates
from tdjax.strategies.choosing.measured import Measured
from tdjax.strategies.choosing.packing import PackingChoice, packing_choice
from tdjax.strategies.choosing.ranking import Candidate, ranked
from tdjax.strategies.fold import Fold
from tdjax.strategies.packed import Packed
from tdjax.strategies.vmap import Vmap

_COUNTED = {"forward": ("forward",), "both": ("forward", "grad")}
_FASTEST = "It is predicted to be the fastest of those that keep the meaning."


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """What `auto` chose for a call.

    Attributes:
        call: the call, with its trace.
        strategy: what runs.
        reason: why, a sentence.
        proven: what is known of its rows; None where that was not asked.
        work: what a row costs; None where nothing had to be predicted.
        predicted: what strategies are predicted to take, this one first.
        packing: what is known of packing its steps; None where that is out of the question.
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
        if isinstance(self.strategy, (Fold, Packed)) and self.proven is not None:
            return self.strategy.run_proven(self.call, self.proven)
        if isinstance(self.strategy, Vmap):
            return self.strategy.run(self.call, self.proven)
        return self.strategy.run(self.call)


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


@dataclasses.dataclass(frozen=True)
class Auto(Strategy):
    """Take the strategy that promises to be the fastest of those that keep the meaning.

    What a row costs is read from the step's trace, and what the device can do is known; from both,
    `tdjax.costs` predicts how long a whole fold takes, a map, and either in blocks of many sizes.
    Folds are taken where the rows are proven to be independent. The choice depends on the program,
    its sizes and the kind of device alone: the same input gives the same choice, and nothing is run
    or compiled to find it.

    Args:
        memory_budget: bytes of temporary memory that may be taken, in the backward pass too unless
            the mode is "forward"; None for as much as is fastest. What tuning has compiled is known
            to fit; of the rest it takes what is sure to, by a bound that is far from tight. If
            nothing is, it warns, and takes what needs least.
        mode: "both" ranks by the time of a forward pass and that of one with its gradient, for
            nobody can see from inside whether a call is differentiated; "forward" by the first.
        valid_fraction: the part of all steps that masks keep, as a rule, from 0 to 1: it tells
            whether to pack them where a mask's values are not known. None assumes three quarters.

    >>> Auto(mode="forward")
    Auto(memory_budget=None, mode='forward', valid_fraction=None)
    """

    memory_budget: int | None = None
    mode: str = "both"
    valid_fraction: float | None = None

    def __post_init__(self) -> None:
        budget = self.memory_budget
        if budget is not None and (isinstance(budget, bool) or not budget > 0):
            raise ValueError(
                f"Auto(memory_budget={budget!r}): memory_budget must be bytes above 0, or None."
            )
        if self.mode not in ("both", "forward"):
            raise ValueError(f'Auto(mode={self.mode!r}): mode must be "both" or "forward".')
        fraction = self.valid_fraction
        if fraction is not None and (isinstance(fraction, bool) or not 0 <= fraction <= 1):
            raise ValueError(
                f"Auto(valid_fraction={fraction!r}): valid_fraction must be a number from 0 to 1, "
                f"the part of all steps that is real, or None."
            )

    __str__ = Strategy.__str__

    def run(self, call: Call) -> Any:
        """Run the call under the strategy that suits it."""
        decision = self.decide(call)
        decisions = _recorded.get()
        if decisions is not None:
            decisions.append(decision)
        self._warn_of(decision)
        return decision.run()

    def decide(self, call: Call) -> Decision:
        """Return what would run, and why; nothing is run or compiled."""
        decision = self._decide(call)
        if call.mask is None or not decision.predicted or decision.work is None:
            return decision
        if decision.measured is not None and decision.measured.has_packed:
            return decision
        packing = packing_choice(
            decision.call, decision.work, decision.predicted, self.mode, self.valid_fraction
        )
        if packing is None:
            return decision
        decision = dataclasses.replace(decision, packing=packing)
        fits = self.memory_budget is None or packing.candidate.most_bytes <= self.memory_budget
        if not packing.pays or not fits:
            return decision
        packed = packing.candidate.strategy
        assert isinstance(packed, Packed)
        proven = prove(decision.call, packed.block(decision.call), settled=True)
        if not proven.proof.independent or _shares_rows(call, proven):
            return dataclasses.replace(decision, packing=None)
        predicted = [packing.candidate, *decision.predicted]
        return dataclasses.replace(
            decision, strategy=packed, reason=_FASTEST, proven=proven, predicted=predicted
        )

    def _decide(self, call: Call) -> Decision:
        """Return what would run if steps were not packed, unless that was measured to be best."""
        if call.axis_name is not None:
            return Decision(call, Vmap(), "Time has a name, which is bound under vmap alone.")
        if call.pooled:
            return Decision(
                call, Fold(), "All steps are one batch (pooled=True), which is a whole fold."
            )
        if call.batch is None:
            return Decision(
                call,
                Vmap(),
                "No argument has both time and batch, so that there are no rows to fold.",
            )
        if not is_symbolic(call.time) and call.time == 1:
            return Decision(call, Vmap(), "There is one step only.")
        step = trace(call, call.batch)
        call = dataclasses.replace(call, traced=step)
        work, planned = self._plan(call, step)
        measured = self._measured(call, step) if planned else None
        if measured is not None:
            planned = measured.first(planned)
        proven = None
        fitting = self._fitting(planned)
        reason = _why(fitting, measured)
        first = fitting[0].strategy if fitting else Fold()
        if isinstance(first, (Fold, Packed)):
            proven = prove(call, _block(first, call), settled=True)
            if proven.proof.independent and not _shares_rows(call, proven):
                return Decision(call, first, reason, proven, work, fitting, measured=measured)
            planned = [each for each in planned if isinstance(each.strategy, Vmap)]
            fitting = self._fitting(planned)
            reason = _why(fitting, measured, left_out=first)
        best = fitting[0].strategy if fitting else Vmap()
        return Decision(call, best, reason, proven, work, fitting, measured=measured)

    def _fitting(self, planned: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return those that are sure to fit the budget; if none is, the one that needs least."""
        if self.memory_budget is None or not planned:
            return planned
        fitting = [each for each in planned if each.most_bytes <= self.memory_budget]
        return fitting or [min(planned, key=lambda each: each.most_bytes)]

    def _warn_of(self, decision: Decision) -> None:
        if self.memory_budget is None or not decision.predicted:
            return
        most = decision.predicted[0].most_bytes
        if most > self.memory_budget:
            warnings.warn(
                f"{decision.call.title}: no strategy is sure to fit memory_budget="
                f"{self.memory_budget} bytes; {decision.strategy} needs least, {most:.0f} at most. "
                f"tdjax.tune(..., memory_budget=...) compiles them, and knows what fits.",
                stacklevel=2,
            )

    def _plan(self, call: Call, step: Program) -> tuple[Work | None, list[Candidate]]:
        """Return what a row costs, and what every strategy is predicted to take, the best first.

        Nothing is known where a size is a symbol.
        """
        if is_symbolic(call.batch) or is_symbolic(call.time) or call.batch * call.time == 0:
            return None, []
        has_rows = [role in ("rows", "spread") for role in call.roles]
        work = work_of(step.jaxpr, call.batch, has_rows)
        machine = current_machine()
        convolves = work.convolves and machine.platform == "cpu"
        among = candidates(call.batch, call.time, True, work.operations, convolves)
        found = ranked(among, work, call.batch, call.time, machine, self.mode)
        return work, found

    def _measured(self, call: Call, step: Program) -> Measured | None:
        """Return what tuning has measured of this program in the modes that count."""
        if not tuned.anything_known((call.batch, call.time)):
            return None
        program = tuned.program_of(call, step)
        for find in (tuned.find, tuned.find_shipped):
            counted = [each for each in find(program) if each.mode in _COUNTED[self.mode]]
            if counted:
                return Measured(counted, shipped=find is tuned.find_shipped)
        return None


def _block(strategy: Fold | Packed, call: Call) -> int:
    """Return how many rows at once the step is to be traced on."""
    if isinstance(strategy, Packed):
        return strategy.block(call)
    return strategy.chunk_size or call.batch * call.time


def _why(
    fitting: Sequence[Candidate], measured: Measured | None, left_out: Strategy | None = None
) -> str:
    """Return why the first of these is taken, in a sentence or two."""
    if measured is None:
        return _FASTEST
    text = ""
    if left_out is not None and measured.knows(left_out):
        text = f"{left_out} was measured to be the fastest {measured.where}, and does not fit this "
        text += "function, whose rows it would mix up. "
    if fitting and measured.knows(fitting[0].strategy):
        of_the_rest = " of the rest" if text else ""
        return f"{text}It was measured to be the fastest{of_the_rest} {measured.where}."
    return text + _FASTEST


def _shares_rows(call: Call, proven: Proven) -> bool:
    """Say whether an output that is not to be stacked has rows, which a fold would repeat."""
    return any(
        axis is None and kind is not CONST
        for axis, kind in zip(proven.step.out_axes(call), proven.proof.outputs, strict=True)
    )
