"""`explain`: what would run for a call, and why, without running it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax

from tdjax.comparison.numbers import amount, seconds, trimmed
from tdjax.comparison.subjects.flax_modules import is_module
from tdjax.comparison.subjects.subject import subject
from tdjax.core.arrays import is_symbolic
from tdjax.core.mask import MaskLike
from tdjax.costs.machine import current_machine
from tdjax.costs.work import Work
from tdjax.flax_guard import StepLike
from tdjax.independence import prove
from tdjax.partition.device_block import describe_block
from tdjax.strategies import Auto, Candidate, Decision, Strategy, recorded
from tdjax.strategies.rows.prints import lift_prints
from tdjax.transform import TimeDistributed, time_distributed

_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What would run for a call, and why. Printing it reads well.

    Attributes:
        strategy: the strategy object that will run.
        rows_independent: whether output row i is proven to depend on input row i alone, which a
            fold needs.
        reasons: sentences.
        candidates: the strategies that were considered, each with its predicted cost, the one that
            runs first; empty where nothing had to be predicted.
    """

    strategy: Strategy
    rows_independent: bool
    reasons: tuple[str, ...]
    candidates: tuple[Candidate, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.strategy} will run.", *self.reasons]
        if self.candidates:
            lines.append("Predicted, forward / forward + gradient:")
            names = [str(each.strategy) for each in self.candidates[:_SHOWN]]
            width = max(map(len, names))
            for name, each in zip(names, self.candidates, strict=False):
                times = " / ".join(seconds(s, trimmed) for s in (each.forward_s, each.gradient_s))
                lines.append(f"  {name:<{width}}  {times}")
            left = len(self.candidates) - _SHOWN
            if left > 0:
                lines.append(f"  and {left} more in .candidates")
        return "\n".join(lines)


def explain(
    fun: StepLike,
    *args: Any,
    mask: MaskLike | jax.ShapeDtypeStruct = None,
    seq_lengths: MaskLike | jax.ShapeDtypeStruct = None,
    **kwargs: Any,
) -> Explanation:
    """Say which strategy will run for a call, and why.

    Nothing is run or compiled: the step is traced, its rows are followed, and the times of
    strategies are predicted from what a row costs and what the device can do. They are for ranking.

    Args:
        fun: a step function or a Flax module, wrapped or not.
        *args: its arguments, with their time axes; arrays, or `jax.ShapeDtypeStruct`.
        mask, seq_lengths: as for the wrapped function.
        **kwargs: keyword arguments for every step.

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
    if not isinstance(fun, TimeDistributed) and is_module(fun):
        return _of_module(fun, args, mask, seq_lengths, kwargs)
    wrapped = fun if isinstance(fun, TimeDistributed) else time_distributed(fun)
    found: list[Explanation] = []

    def call(*given: Any) -> None:
        bound = wrapped.bind(given, kwargs, mask, seq_lengths)
        bound = describe_block(bound, wrapped.options.partition)
        strategy = wrapped.options.strategy
        decision = strategy.decide(bound)
        found.append(_of_choice(bound, strategy) if decision is None else _of_decision(decision))

    jax.eval_shape(call, *args)
    return found[0]


def _of_module(
    module: Any, args: tuple[Any, ...], mask: Any, seq_lengths: Any, kwargs: dict[str, Any]
) -> Explanation:
    """Return what is decided while a Flax module is traced."""
    made = subject(module, args, mask=mask, seq_lengths=seq_lengths, kwargs=kwargs)
    with recorded() as decisions:
        jax.eval_shape(functools.partial(made.call, Auto()), made.arrays)
    if decisions:
        return _of_decision(decisions[0])
    reason = "It updates state that its steps share, which leaves one way to run it."
    return Explanation(Auto(), False, (reason,))


def _of_decision(decision: Decision) -> Explanation:
    call, proven = decision.call, decision.proven
    reasons = [decision.reason]
    if proven is None:
        independent, reason = _proof(call)
    else:
        independent, reason = proven.proof.independent, proven.proof.reason
    reasons.append(_about_rows(independent, reason))
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
        if _has_own_convolutions(decision, work):
            reasons.append(
                "Its convolutions are computed in forms that are faster on a CPU than those that "
                "XLA would choose."
            )
        reasons.append(current_machine().source)
    if decision.packing is not None:
        reasons.append(decision.packing.reason)
    candidates = tuple(decision.predicted)
    return Explanation(decision.strategy, independent, tuple(reasons), candidates)


def _has_own_convolutions(decision: Decision, work: Work) -> bool:
    """Say whether tdjax's own convolutions will run: those of blocks and packed steps on a CPU."""
    if not work.convolves or current_machine().platform != "cpu":
        return False
    blocks = decision.strategy.blocks(decision.call.batch, decision.call.time)
    return decision.strategy.packs if blocks is None else not blocks.plain


def _of_choice(call: Any, strategy: Strategy) -> Explanation:
    independent, reason = _proof(call)
    reasons = ("It was asked for.", _about_rows(independent, reason))
    return Explanation(strategy, independent, reasons)


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


def _about_rows(independent: bool, reason: str) -> str:
    if independent:
        return "Its rows are proven to be independent, so that any strategy keeps the meaning."
    return f"Its rows are not proven to be independent, because {reason}: no fold is taken."
