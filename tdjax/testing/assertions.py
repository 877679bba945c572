"""The two assertions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from tdjax.core.errors import StrategyError
from tdjax.strategies import parse
from tdjax.testing.answers import evaluate
from tdjax.testing.differences import Tolerances, differences, message
from tdjax.testing.loop import PlainLoop, proof_of, run_loop
from tdjax.testing.one_row import dependences
from tdjax.testing.tested import chosen, tested


def assert_same_as_loop(
    fun_or_layer: Any,
    *args: Any,
    strategies: Sequence[Any] | None = None,
    gradients: bool = True,
    tolerance: float | dict[str, float] | None = None,
    **options: Any,
) -> None:
    """Assert that strategies give what the plain Python loop gives, values and gradients.

    The loop calls the step function on every step and stacks what it returns. No gradient comes
    from steps without a real row, and other rows that a mask takes away are not shown to a function
    whose rows are independent. A layer draws the noise of `rng="split"`, unless told otherwise.
    Batch normalization in training is a loop only with `pooled=False`.

    Gradients are those of all inexact arguments (and variables of a layer), from all inexact
    outputs, for fixed random cotangents. Steps in float16 and bfloat16 are also compared with a
    loop in float32: a strategy may be as far from it as the loop itself is.

    Args:
        fun_or_layer: a step function, one wrapped by `tdjax.time_distributed`, a Linen module or an
            NNX module, wrapped or not. What is wrapped keeps its options.
        args: its arguments, with their time axes. Before those of a Linen module its variables may
            stand; otherwise it is initialized.
        strategies: names or objects. None for every one that applies: those that refuse the
            function with StrategyError are left out.
        gradients: whether to compare gradients as well.
        tolerance: relative to a number and to the largest of its array; one for all, or one for
            each name of a dtype. Default: `tdjax.testing.TOLERANCE`.
        options: `mask`, `seq_lengths`, `kwargs` (keyword arguments for every step, a dict), those
            of `tdjax.time_distributed` (`in_axes`, `out_axes`, `masked_output`, `partition`,
            `axis_size`), and for layers those of the wrapper (`rng`, `pooled`), `variables` (Linen)
            and `rngs` (Linen, default a key for "dropout").

    Raises:
        AssertionError: a strategy gives something else. It names the strategy, the leaf, step and
            row that differ, and by how much.
        StrategyError: a strategy in `strategies` refuses the function.
        ValueError, TypeError: arguments or options that do not fit.

    >>> import jax, jax.numpy as jnp
    >>> assert_same_as_loop(jnp.tanh, jnp.ones((2, 3, 4)))
    >>> weights = jnp.eye(4)
    >>> assert_same_as_loop(jnp.dot, jnp.ones((2, 3, 4)), weights, in_axes=(1, None))
    >>> centered = lambda x: x - x.mean(0)
    >>> batch = jnp.arange(12.0).reshape(2, 3, 2)
    >>> assert_same_as_loop(centered, batch)  # "fold" refuses it
    >>> from tdjax import Fold
    >>> assert_same_as_loop(centered, batch, strategies=[Fold(assume_independent=True)])
    Traceback (most recent call last):
        ...
    AssertionError: <lambda>, under Fold(assume_independent=True), is not the loop:
      output (float32[2,3,2]) differs in 8 of 12 elements, most at [0, 0, 0], step 0, row 0:
        loop -3, strategy -5, difference 2, allowed 0.000304
      ...
    """
    subject = tested(fun_or_layer, args, options, "assert_same_as_loop")
    call = subject.call
    if call.time == 0:
        raise ValueError(f"assert_same_as_loop: {call.title} has no steps to compare.")
    limits = Tolerances.of(tolerance, call)
    loop = PlainLoop.of(call)
    expected, noise = run_loop(loop, gradients)
    named = strategies is not None
    ran = []
    for strategy in map(parse, chosen(subject, strategies)):
        try:
            found = evaluate(functools.partial(subject.run, strategy), call.leaves, gradients)
        except StrategyError:
            if named:
                raise
            continue
        ran.append(strategy)
        lines = list(differences(loop, limits, found, expected, noise))
        if lines:
            raise AssertionError(message(call, strategy, lines))
    if not ran:
        raise AssertionError(f"no strategy takes {call.title}; name one to see why.")


def assert_row_independent(
    fun: Any,
    *args: Any,
    gradients: bool = True,
    tolerance: float | dict[str, float] | None = None,
    **options: Any,
) -> None:
    """Assert that output row i depends on input row i alone: the proof, and a trial of it.

    First tdjax has to prove it, as for a fold. Then one row at a time is changed, in every step:
    no other row of the outputs may change, nor of the gradients, nor what the other rows add to the
    gradients of arguments that the rows share. A function that is not proven is tried as well, and
    the message says whether a row was seen to depend on another.

    Args:
        fun: a step function or a layer, wrapped or not, as for `assert_same_as_loop`.
        args: its arguments, with their time axes; two rows at least.
        gradients: whether to look at gradients as well.
        tolerance, options: as for `assert_same_as_loop`.

    Raises:
        AssertionError: it is not proven, or a row was seen to depend on another.
        ValueError, TypeError: arguments or options that do not fit.

    >>> import jax.numpy as jnp
    >>> rows = jnp.arange(12.0).reshape(2, 3, 2)
    >>> assert_row_independent(jnp.tanh, rows)
    >>> assert_row_independent(lambda x: x - x.mean(0), rows)
    Traceback (most recent call last):
        ...
    AssertionError: <lambda> is not proven to be row independent: ...
    Rows do depend on each other: with row 0 of step 0 changed (and no other),
      output (float32[2,2]) differs in 2 of 2 elements of other rows, most at [1, 0], row 1:
      ...
    """
    subject = tested(fun, args, options, "assert_row_independent")
    call = subject.call
    if call.batch is not None and call.batch < 2:
        raise ValueError(
            f"assert_row_independent: a step of {call.title} has {call.batch} rows; give at least "
            f"2, so that one can be changed and another looked at."
        )
    proof = proof_of(call)
    seen = next(dependences(call, proof, gradients, Tolerances.of(tolerance, call)), None)
    if proof.independent and seen is None:
        return
    if proof.independent:
        raise AssertionError(
            f"{call.title} is proven to be row independent, but {seen}\nEither the function is not "
            f"pure, or the proof of tdjax is wrong: please report it."
        )
    trial = (
        f"Rows do depend on each other: {seen}"
        if seen is not None
        else "Changing one row at a time changed no other: they may be independent all the same. "
        "Then write the operation in another way, or fold with "
        "tdjax.Fold(assume_independent=True)."
    )
    raise AssertionError(
        f"{call.title} is not proven to be row independent: {proof.reason}.\n{trial}"
    )
