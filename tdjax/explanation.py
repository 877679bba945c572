"""`explain`: what would run for a call, and why, without running it."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any

import jax

from tdjax.comparison.numbers import amount, seconds, trimmed
from tdjax.core.arrays import is_symbolic
from tdjax.core.mask import MaskLike
from tdjax.core.sites import flat, listening
from tdjax.costs.machine import current_machine
from tdjax.costs.work import Work
from tdjax.flax_guard import StepLike
from tdjax.independence import prove
from tdjax.model_call import is_wrapper, pure_call
from tdjax.strategies import Candidate, Decision, Strategy
from tdjax.strategies.rows.prints import lift_prints

# What is traced under another value is traced anew, by transforms that remember traces as well.
_retracing = jax.make_user_context(None)

_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What would run for a call, and why. Printing it reads well.

    Attributes:
        strategy: the strategy object that will run, unless the call is differentiated; None for a
            model, whose layers have their own.
        rows_independent: whether output row i is proven to depend on input row i alone, which a
            fold needs.
        reasons: sentences.
        candidates: the strategies that were considered, each with its predicted cost, the one that
            runs first, then the one that runs with gradients; empty where nothing was predicted.
        layers: an explanation of each distributed layer or function inside of it, however deep.
        path: where it is in a model: the path of a layer, the name and line of a function.
        gradient_strategy: the strategy object that will run where the call is differentiated.
    """

    strategy: Strategy | None
    rows_independent: bool
    reasons: tuple[str, ...]
    candidates: tuple[Candidate, ...] = ()
    layers: tuple[Explanation, ...] = ()
    path: str = ""
    gradient_strategy: Strategy | None = None

    def __str__(self) -> str:
        lines = [*self.reasons] if self.strategy is None else self._own_lines()
        if self.strategy is not None and self.layers:
            lines.append("Inside of its steps:")
        widths = [max((len(str(of(each))) for each in self.layers), default=0) for of in _COLUMNS]
        for each in self.layers:
            cells = (f"{of(each)!s:<{width}}" for of, width in zip(_COLUMNS, widths, strict=True))
            why = each.reasons[: 1 if each.rows_independent else 2]
            lines.append(f"  {'  '.join(cells)}  {' '.join(why)}")
        return "\n".join(lines)

    def _what_runs(self) -> str:
        return f"{self.strategy}{self._with_gradients(' ({} with gradients)')}"

    def _with_gradients(self, text: str) -> str:
        """Return a text with what runs where the call is differentiated, if that is another one."""
        other = self.gradient_strategy
        return "" if other in (None, self.strategy) else text.format(other)

    def _own_lines(self) -> list[str]:
        lines = [f"{self.strategy} will run{self._with_gradients(', {} where differentiated')}."]
        lines += self.reasons
        if self.candidates:
            lines.append("Predicted, forward / forward + gradient:")
            names = [str(each.strategy) for each in self.candidates[:_SHOWN]]
            width = max(map(len, names))
            for name, each in zip(names, self.candidates, strict=False):
                both = each.forward_s, each.gradient_s
                known = not any(map(math.isnan, both))  # of what was measured alone nothing is
                times = " / ".join(seconds(s, trimmed) for s in both) if known else "measured"
                lines.append(f"  {name:<{width}}  {times}")
            left = len(self.candidates) - _SHOWN
            if left > 0:
                lines.append(f"  and {left} more in .candidates")
        return lines


_COLUMNS: tuple[Callable[[Explanation], Any], ...] = (
    operator.attrgetter("path"),
    operator.methodcaller("_what_runs"),
)


def explain(
    fun: StepLike,
    *args: Any,
    mask: MaskLike | jax.ShapeDtypeStruct = None,
    seq_lengths: MaskLike | jax.ShapeDtypeStruct = None,
    **kwargs: Any,
) -> Explanation:
    """Say which strategy will run for a call, and why; in a model, for all that is distributed.

    Nothing is run or compiled: the step is traced, its rows are followed, and the times of
    strategies are predicted from what a row costs and what the device can do. They are for ranking.

    A function or a Flax module that has distributed layers or functions inside, however deep, is a
    model: it takes the arguments that it takes itself, and each of those has its explanation in
    `.layers`. Anything else is a step. To see one with some inside as a step, wrap it first.

    Args:
        fun: a step function or a Flax module, wrapped or not; or a model.
        *args: its arguments, with their time axes; arrays, or `jax.ShapeDtypeStruct`. Those of a
            Linen module may begin with its variables, as for `.apply`.
        mask, seq_lengths: as for the wrapped function.
        **kwargs: keyword arguments for every step; of a Linen module, those of `.apply` as well.

    Returns:
        An `Explanation`.

    Raises:
        StrategyError: the strategy cannot keep the meaning for this function.
        ValueError, TypeError: arguments that do not fit.

    >>> import jax.numpy as jnp
    >>> explanation = explain(jnp.tanh, jnp.ones((8, 10, 16)))
    >>> explanation.strategy, explanation.rows_independent
    (Fold(chunk_size=None, unroll=False, remat=False, assume_independent=False), True)
    """
    masks = {"mask": mask, "seq_lengths": seq_lengths}
    kwargs.update((name, value) for name, value in masks.items() if value is not None)
    if is_wrapper(fun):
        return _sites(*pure_call(fun, args, kwargs))[0]
    inside: list[Explanation] = []
    failure = None
    if callable(fun) and not isinstance(fun, type):
        try:
            _sites(*pure_call(fun, args, kwargs), inside)
        except Exception as error:  # a step need not take all steps at once
            failure = error
    if inside and failure is None:
        return _of_model(tuple(flat(inside)))
    try:
        return _sites(*pure_call(fun, args, kwargs, as_step=True))[0]
    except Exception:
        if inside and failure is not None:
            raise failure from None
        raise


def _sites(
    function: Callable[..., Any], arrays: list[Any], found: list[Explanation] | None = None
) -> list[Explanation]:
    """Return what is decided in a call, and keep it in `found` in case that the call fails."""
    found = [] if found is None else found
    with listening(_of_decision, found), _retracing(object()):
        jax.eval_shape(function, arrays)
    return found


def _of_model(layers: tuple[Explanation, ...]) -> Explanation:
    things = "layers or functions" if len(layers) > 1 else "layer or function"
    reason = f"A model with {len(layers)} distributed {things} inside:"
    independent = all(each.rows_independent for each in layers)
    return Explanation(None, independent, (reason,), layers=layers)


def _of_decision(decision: Decision) -> Explanation:
    call, proven, gradient = decision.call, decision.proven, decision.in_mode("grad")
    reasons = [decision.reason]
    if proven is None:
        independent, reason = _proof(call)
    else:
        independent, reason = proven.proof.independent, proven.proof.reason
    reasons.append(_about_rows(independent, reason, decision))
    if gradient.strategy != decision.strategy:
        reasons.append(f"With gradients {gradient.strategy} runs. {gradient.reason}")
    work = decision.work
    if work is not None:
        flops = work.dot_flops + work.conv_flops
        reasons.append(
            f"A row takes {amount(flops, 'flop', trimmed)} and "
            f"{amount(work.moved_bytes, 'B', trimmed)} of traffic, has "
            f"{amount(work.live_bytes, 'B', trimmed)} in use at a time, and shares "
            f"{amount(work.weight_bytes, 'B', trimmed)} of weights; there are "
            f"{call.batch} x {call.time} rows."
        )
        if work.fused and current_machine().platform == "cpu":
            least, whole = work.fused[-1]
            reasons.append(
                f"Forward, in blocks of {math.ceil(least)} rows or more, XLA computes reductions "
                "and what is about them in one pass: a row has "
                f"{amount(whole.moved_bytes, 'B', trimmed)} of traffic there."
            )
        if _has_own_forms(decision, work) or _has_own_forms(gradient, work):
            reasons.append(
                f"Its {_of_own_forms(work)} computed in forms that are faster on a CPU than those "
                "that XLA would choose."
            )
        reasons.append(current_machine().source)
    if decision.packing is not None:
        reasons.append(decision.packing.reason)
    first = decision.strategy, gradient.strategy
    candidates = sorted(
        decision.predicted, key=lambda each: (*first, each.strategy).index(each.strategy)
    )
    return Explanation(
        decision.strategy,
        independent,
        tuple(reasons),
        tuple(candidates),
        gradient_strategy=gradient.strategy,
    )


def _has_own_forms(decision: Decision, work: Work) -> bool:
    """Say whether tdjax's own forms will run: those of blocks and packed steps on a CPU."""
    if not work.has_own_forms or current_machine().platform != "cpu":
        return False
    blocks = decision.strategy.blocks(decision.call.batch, decision.call.time)
    return decision.strategy.packs if blocks is None else not blocks.plain


def _of_own_forms(work: Work) -> str:
    pools = ["gradients of pooling"] if work.pooled_values else []
    return " and ".join([*(["convolutions"] if work.convolves else []), *pools]) + " are"


def _proof(call: Any) -> tuple[bool, str]:
    if call.batch is None:
        return False, "no argument has both time and batch"
    if call.axis_name is not None:
        return False, "it binds a name over time"
    rows = call.batch * call.time
    if not is_symbolic(rows) and rows == 0:
        return False, "there are none"
    call = lift_prints(call) or call
    proof = prove(call, rows).proof
    return proof.independent, proof.reason


def _about_rows(independent: bool, reason: str, decision: Decision) -> str:
    if independent:
        return "Its rows are proven to be independent, so that any strategy keeps the meaning."
    left_out = "" if decision.strategy.folds else ": no fold is taken"
    said = f"Its rows are not proven to be independent, because {reason}{left_out}."
    if decision.call.pooled:
        said += " That is allowed: it is meant to see all steps as one batch."
    return said
