"""Decides what `auto` runs for a call. Nothing is run or compiled for that.

In this order: what leaves one way only (a name for time, all steps as one batch, a single step);
what tuning has measured of this program, here or on such a device; what the device's compiler makes
of it; and the prediction of `tdjax.costs`. A strategy that folds is taken where rows are proven to
be independent, else the best of those that see whole steps.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from tdjax.core.arrays import is_symbolic
from tdjax.core.call import Call, Program, trace, within_step
from tdjax.core.jaxpr import all_equations
from tdjax.core.recent import Recent
from tdjax.costs.machine import current_machine
from tdjax.costs.reading import work_of
from tdjax.costs.work import Work
from tdjax.devices.attached import device_kind
from tdjax.devices.compiled_result import Result
from tdjax.independence import CONST, Proven, on_own_rows, prove_for_blocks
from tdjax.independence.one_by_one import makes_refs, why_one_by_one
from tdjax.independence.rules.derivatives import adds_by_itself, is_someones_operation
from tdjax.strategies.base import KINDS, Strategy
from tdjax.strategies.choosing import tuned
from tdjax.strategies.choosing.decision import Decision
from tdjax.strategies.choosing.measured import Measured
from tdjax.strategies.choosing.packing import PackingChoice, packing_choice
from tdjax.strategies.choosing.ranking import (
    LEVEL,
    MOST_TIMES,
    Candidate,
    best_first,
    candidates,
    ranked,
    times_written,
)
from tdjax.strategies.fold import Fold
from tdjax.strategies.rows.prints import lift_prints
from tdjax.strategies.vmap import Vmap

_COUNTED = {"forward": ("forward",), "grad": ("grad",), "both": ("forward", "grad")}
_FASTEST = "It is predicted to be the fastest of those that keep the meaning."


def decide(
    call: Call, mode: str, memory_budget: int | None, valid_fraction: float | None
) -> Decision:
    """Return what runs, and why; see `Auto` for the options."""
    only = _only_way(call)
    if only is not None:
        return only
    step = trace(call, call.batch)
    call = call.replace(traced=step)
    choice = _Choice(call, memory_budget, valid_fraction, {})
    if not call.is_differentiable(step):
        return choice.best("forward")  # there is nothing to differentiate
    if mode != "both" or within_step.value or _is_one_program(step):
        return choice.best(mode)
    forward = choice.best("forward")
    if not forward.predicted:
        return forward  # there is no choice
    gradient = choice.best("grad")
    if _serves_both(forward, gradient):
        forward = forward.instead(gradient)
    return dataclasses.replace(forward, gradient=gradient)


def warn_of_budget(decision: Decision, memory_budget: int | None) -> None:
    """Warn if what was decided may take more memory than it should."""
    if memory_budget is None or not decision.predicted:
        return
    decision = decision.in_mode("grad")  # no forward pass takes more
    most = decision.predicted[0].most_bytes
    if most > memory_budget:
        warnings.warn(
            f"{decision.call.title}: no strategy is sure to fit memory_budget={memory_budget} "
            f"bytes; {decision.strategy} needs least, {most:.0f} at most. "
            f"tdjax.tune(..., memory_budget=...) compiles them, and knows what fits.",
            stacklevel=2,
        )


def _only_way(call: Call) -> Decision | None:
    """Return what runs if the call alone leaves one way; None if its step must be looked at."""
    if call.axis_name is not None:
        return Decision(call, Vmap(), "Time has a name, which is bound under vmap alone.")
    if call.pooled:
        return Decision(
            call, Fold(), "All steps are one batch (pooled=True), which is a whole fold."
        )
    if any(map(adds_by_itself, call.leaves)):
        return Decision(
            call,
            Vmap(chunk_size=1),
            "An argument is of a type with an addition of its own, which jax.vmap cannot do.",
        )
    return None


def _is_one_program(step: Program) -> bool:
    """Say whether a step runs as one program, differentiated or not.

    It does if it has effects, or an operation that may have a rule for reverse mode alone.
    """
    return makes_refs(step) or any(
        eqn.effects or is_someones_operation(eqn) for eqn in all_equations(step.jaxpr.bare)
    )


def _serves_both(forward: Decision, gradient: Decision) -> bool:
    """Say whether what is best with gradients is as good without, and no more to compile.

    Then one program does; two are traced sooner than they pay where they are level.
    """
    if forward.strategy.without_remat() == gradient.strategy.without_remat():
        return True
    level = forward.measured.order(forward.predicted)[1] if forward.measured is not None else []
    if level:
        alike = gradient.strategy in level
    else:
        costs = {each.strategy: each.forward_s for each in forward.predicted}
        least = costs[forward.strategy]
        alike = costs.get(gradient.strategy, math.inf) <= LEVEL * least
    sizes = forward.call.batch, forward.call.time
    most = times_written(forward.strategy, *sizes)
    return alike and times_written(gradient.strategy, *sizes) <= most


@dataclasses.dataclass(frozen=True)
class _Choice:
    """What is chosen among for a traced call.

    Attributes:
        call: the call, whose step has been traced.
        memory_budget, valid_fraction: as of `Auto`.
        proofs: what is known of its rows, by how many of them run at once.
    """

    call: Call
    memory_budget: int | None
    valid_fraction: float | None
    proofs: dict[Any, Proven]

    def best(self, mode: str) -> Decision:
        """Return what runs in a mode, and why."""
        call, step = self.call, self.call.traced
        assert step is not None
        shardings = tuple(getattr(leaf, "sharding", None) for leaf in call.leaves)
        key = step.key and call.prints is None and (step.key, call.layout(), shardings, mode)
        plan = _recall(key) if key else None
        # A derivative rule does not show in the key.
        if plan is None or call.is_differentiable(step):
            alone = why_one_by_one(call, step)
            if alone:
                reason = f"Its steps run one after the other, because {alone}."
                return Decision(call, Vmap(chunk_size=1), reason)
        if plan is None:
            if call.batch is None:
                reason = "No argument has both time and batch, so that there are no rows to fold."
                return Decision(call, Vmap(), reason)
            if not is_symbolic(call.time) and call.time == 1:
                return Decision(call, Vmap(), "There is one step only.")
            lifted = lift_prints(call)
            if lifted is not None:
                step, key = trace(lifted, lifted.batch), None
                call = lifted.replace(traced=step)
            plan = _plan(call, step, mode)
            if key and plan.lasts:
                _plans.keep(key, plan)
        chosen = self if call is self.call else dataclasses.replace(self, call=call)
        return chosen._among(plan, mode)

    def _among(self, plan: _Plan, mode: str) -> Decision:
        """Return what runs of that which a plan knows."""
        call, work, measured = self.call, plan.work, plan.measured
        fitting, reason = _order(_fitting(plan.candidates, self.memory_budget), measured, mode)
        packing = self._packing(plan, fitting, mode)
        if packing is not None and packing.pays and self._fits(packing.candidate):
            first = packing.candidate.strategy
            proven = self._prove(first)
            if proven.proof.independent and not _shares_rows(call, proven):
                ordered = [packing.candidate, *fitting]
                return Decision(call, first, _FASTEST, proven, work, ordered, packing, measured)
            packing = None
        known: Proven | None = None
        first = fitting[0].strategy if fitting else Fold()
        if first.folds:
            known = self._prove(first)
            if known.proof.independent and not _shares_rows(call, known):
                return Decision(call, first, reason, known, work, fitting, packing, measured)
            packing = None
            whole = [each for each in plan.candidates if not each.strategy.folds]
            fitting = _fitting(whole, self.memory_budget)
            fitting, reason = _order(fitting, measured, mode, left_out=first)
        best = fitting[0].strategy if fitting else Vmap()
        return Decision(call, best, reason, known, work, fitting, packing, measured)

    def _packing(
        self, plan: _Plan, fitting: Sequence[Candidate], mode: str
    ) -> PackingChoice | None:
        """Return whether packing pays, unless that was measured."""
        if self.call.mask is None or not fitting or plan.work is None:
            return None
        if plan.measured is not None and plan.measured.has_packed:
            return None
        return packing_choice(self.call, plan.work, fitting, mode, self.valid_fraction)

    def _fits(self, candidate: Candidate) -> bool:
        return self.memory_budget is None or candidate.most_bytes <= self.memory_budget

    def _prove(self, strategy: Strategy) -> Proven:
        """Return the proof for as many rows as a strategy runs at once.

        Rows that mix on some rows are not tried on others: every attempt traces the step.
        """
        rows = strategy.rows_at_once(self.call)
        for known, proven in self.proofs.items():
            if known == rows or not proven.proof.independent:
                return proven
        call = self.call
        if self.proofs and rows == call.batch:  # every proof is one of these rows as well
            own = on_own_rows(next(iter(self.proofs.values())))
            if own.proof.independent:
                return own
        if self.proofs:  # they found which shared arrays lead with rows
            call = call.replace(roles=next(iter(self.proofs.values())).proof.roles)
        return self.proofs.setdefault(rows, prove_for_blocks(call, rows, settled=True))


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is known of a program whose steps can run at once, and which prints nothing.

    Attributes:
        work: what a row costs; None where a size is a symbol, of which nothing is known.
        candidates: what every strategy takes, the best first.
        measured: what tuning has measured of it, if it has.
        under: what it holds for; see `_holding`.
        lasts: whether it holds for as long as that does.
    """

    work: Work | None
    candidates: Sequence[Candidate]
    measured: Measured | None = None
    under: tuple[Any, ...] = ()
    lasts: bool = False


def _holding() -> tuple[Any, ...]:
    """Return what plans depend on beside the program: the machine, results and strategies."""
    kind = device_kind()
    return (current_machine(), kind, *tuned.sources(kind), *KINDS.values())


def _recall(key: Any) -> _Plan | None:
    plan = _plans.get(key)
    return plan if plan is not None and plan.under == _holding() else None


def _plan(call: Call, step: Program, mode: str) -> _Plan:
    if is_symbolic(call.batch) or is_symbolic(call.time) or call.batch * call.time == 0:
        return _Plan(None, ())
    machine = current_machine()
    work = work_of(step.jaxpr, call.batch, call.has_rows())
    own_forms = work.has_own_forms and machine.platform == "cpu"
    among = candidates(call.batch, call.time, True, work.operations, own_forms)
    planned: Sequence[Candidate] = tuple(ranked(among, work, call.batch, call.time, machine, mode))
    if not tuned.anything_known((call.batch, call.time)):
        return _Plan(work, planned, None, _holding(), lasts=True)
    program = tuned.program_of(call, step)
    measured = _find_measured(program, mode)
    if measured is not None:
        planned = measured.complete(planned)
    # A file may change while the list of files stays as it is.
    return _Plan(work, planned, measured, _holding(), lasts=not tuned.has_files(program))


_plans: Recent[_Plan] = Recent()


def _find_measured(program: str, mode: str) -> Measured | None:
    """Return what tuning has measured of a program in the modes that count, else compiled."""
    finds: Sequence[Callable[[str], Sequence[Result]]] = (
        tuned.find,
        tuned.find_shipped,
        tuned.find_compiled,
    )
    for find in finds:
        counted = [each for each in find(program) if each.mode in _COUNTED[mode]]
        if counted:
            return Measured(counted, shipped=find is tuned.find_shipped)
    return None


def _fitting(planned: Sequence[Candidate], memory_budget: int | None) -> Sequence[Candidate]:
    """Return those that are sure to fit the budget; if none is, the one that needs least."""
    if memory_budget is None or not planned:
        return planned
    fitting = [each for each in planned if each.most_bytes <= memory_budget]
    return fitting or [min(planned, key=lambda each: each.most_bytes)]


def _order(
    fitting: Sequence[Candidate],
    measured: Measured | None,
    mode: str,
    left_out: Strategy | None = None,
) -> tuple[Sequence[Candidate], str]:
    """Return these with the one to run first, and why, in a sentence or two."""
    if measured is None:
        fitting, passed = best_first(fitting, mode)
        return fitting, _FASTEST if passed is None else _too_long(fitting[0], passed, mode)
    fitting, level = measured.order(fitting)
    where, text = measured.where, ""
    if left_out is not None and measured.knows(left_out):
        text = (
            f"{left_out} was {measured.words.among} {where}, and does not fit this "
            "function, whose rows it would mix up. "
        )
        where = f"of the rest {where}"
    if not level:
        return fitting, text + _FASTEST
    if len(level) == 1:
        return fitting, f"{text}It was {measured.words.first} {where}."
    names = ", ".join(map(str, level))
    return fitting, (
        f"{text}It is predicted to be the fastest of those that were {measured.words.level} "
        f"{where}: {names}."
    )


def _too_long(first: Candidate, passed: Candidate, mode: str) -> str:
    """Return why the fastest by prediction does not run."""
    saved = 1 - passed.cost(mode) / first.cost(mode)
    return (
        f"It is predicted to be the fastest of those that do not take more than {MOST_TIMES:.0f} "
        f"times as long to compile as a plain program: {passed.strategy} would take about "
        f"{passed.compile_times:.0f} times as long, and save {saved:.0%} of the time."
    )


def _shares_rows(call: Call, proven: Proven) -> bool:
    """Say whether an output that is not to be stacked has rows, which a fold would repeat."""
    if isinstance(call.out_axes, int):
        return False
    return any(
        axis is None and kind is not CONST
        for axis, kind in zip(proven.step.out_axes(call), proven.proof.outputs, strict=True)
    )
