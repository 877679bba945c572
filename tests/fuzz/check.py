"""Checks one program: what is proven is the loop; what is refused depends on other rows."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import tdjax

from .derived import Answer, Loop, LoopError, difference, is_inexact, of_strategy
from .one_batch import depends, depends_inside
from .program import Program
from .refusals import known_refusal
from .scope import quiet


@dataclasses.dataclass(frozen=True)
class Failure:
    """Something that must not be.

    Attributes:
        kind: "wrong value", "wrong gradient", "crash", "refused without need" ...
        strategy: under which.
        text: what was found.
        level: what was derived.
    """

    kind: str
    strategy: str
    text: str
    level: str = "values"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        verdict: "proven", "refused", or "invalid" where the loop itself does not run.
        failure: what is wrong, if anything is.
        reason: of the refusal.
        listed: the entry of the list of needless refusals that excuses it.
        strategies: what was run.
    """

    verdict: str
    failure: Failure | None = None
    reason: str = ""
    listed: str = ""
    strategies: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Trial:
    """A strategy that is tried, with or without a mask."""

    strategy: Any
    masked: bool = False

    def __str__(self) -> str:
        return f"{self.strategy!r}{' with a mask' if self.masked else ''}"


def trials(program: Program, proven: bool, rng: random.Random) -> list[Trial]:
    """Return the strategies to try: a fold where it is proven, and some of the others."""
    block = rng.choice([1, 2, 3, program.batch, program.batch + 1])
    any_function = [
        Trial(tdjax.Vmap(chunk_size=2)),
        Trial(tdjax.Auto()),
        Trial(tdjax.Vmap(chunk_size=rng.choice([1, 2]), unroll=True)),
    ]
    if not has_rules(program):
        any_function.append(Trial(tdjax.Vmap()))  # with rules it is what `jax.vmap` makes of them
    if draws_otherwise(program):
        any_function = [Trial(tdjax.Vmap(chunk_size=1)), Trial(tdjax.Vmap(1, unroll=True))]
    if not proven:
        return [any_function[0], rng.choice(any_function[1:])]
    folds = [
        Trial(tdjax.Fold(chunk_size=block)),
        Trial(tdjax.Fold(chunk_size=block, unroll=True, remat=rng.choice([True, False]))),
        Trial(tdjax.Packed(chunk_size=block), masked=True),
        Trial(tdjax.Packed(), masked=True),
        Trial(tdjax.Fold(), masked=True),
        *([] if draws_otherwise(program) else [Trial(tdjax.Auto(), masked=True)]),
    ]
    return [Trial(tdjax.Fold()), rng.choice([*folds, *any_function[:2]])]


def wrap(step: Any, program: Program, strategy: Any) -> Any:
    """Return the step over time; outputs have time in front."""
    return tdjax.time_distributed(step, in_axes=program.in_axes(), out_axes=0, strategy=strategy)


def check(program: Program, only: Failure | None = None) -> Outcome:
    """Return what becomes of a program.

    Args:
        program: what to check.
        only: look for this failure alone, quickly.
    """
    with quiet():
        return _check(program, only)


def _check(program: Program, only: Failure | None) -> Outcome:
    rng = random.Random(f"check {program.seed}")
    args = program.args()
    step = program.step()
    try:
        loop = Loop(program, step, args)
        wanted = _wanted(program, rng)
        level = loop.level(wanted if only is None else only.level)
    except Exception as error:
        return Outcome("invalid", reason=f"{type(error).__name__}: {error}")
    try:
        jax.eval_shape(wrap(step, program, tdjax.Fold()), *args)
        reason = ""
    except tdjax.StrategyError as error:
        reason = str(error)
    except Exception as error:
        return Outcome("proven", _crash(tdjax.Fold(), error))
    proven = not reason
    tried = []
    for trial in trials(program, proven, rng):
        if only is not None and str(trial) != only.strategy:
            continue
        if not proven and not has_rules(program) and rng.random() < 0.85:
            continue
        failure = _try(program, step, loop, trial, level, args)
        if isinstance(failure, Failure):
            return Outcome("proven" if proven else "refused", failure, reason)
        tried.append(str(trial))
    if proven:
        return Outcome("proven", strategies=tuple(tried))
    if only is not None and only.kind != "refused without need":
        return Outcome("refused", reason=reason)
    listed = known_refusal(reason)
    if listed and rng.random() < 0.8:  # whether it depends changes nothing, and takes long
        return Outcome("refused", reason=reason, strategies=tuple(tried))
    if depends(program):
        listed = ""
    elif not listed and not depends_inside(program):
        failure = Failure("refused without need", "fold", reason)
        return Outcome("refused", failure, reason)
    else:
        listed = listed or "what mixes rows does not show in the outputs"
    return Outcome("refused", reason=reason, listed=listed, strategies=tuple(tried))


def has_rules(program: Program) -> bool:
    """Say whether a derivative rule written by hand occurs in a program."""
    return "with_vjp" in program.step_code() or "custom_gradient" in program.step_code()


def draws_otherwise(program: Program) -> bool:
    """Say whether `jax.vmap` draws other noise from the keys of a program than a loop does."""
    if "rng_bit_generator" in program.step_code():
        return True
    return any(array.kind == "key" and array.impl != "threefry2x32" for array in program.arrays)


def _wanted(program: Program, rng: random.Random) -> str:
    seconds = 0.35 if has_rules(program) else 0.15
    if rng.random() < seconds:
        return rng.choice(["second", "second", "second by reverse mode"])
    return "gradients"


def _try(
    program: Program, step: Any, loop: Loop, trial: Trial, level: str, args: Sequence[Any]
) -> Failure | None:
    mask = _mask(program) if trial.masked else None
    function = wrap(step, program, trial.strategy)
    if level == "tangents" and isinstance(trial.strategy, tdjax.Packed):
        level = "values"  # packed steps are differentiated by linearizing them
    try:
        expected = loop(level, loop.args if mask is None else args, mask)
    except LoopError:
        return None
    try:
        actual = of_strategy(function, level, args, loop.directions, mask)
    except Exception as error:
        refused = isinstance(error, tdjax.StrategyError)
        if refused and isinstance(trial.strategy, (tdjax.Fold, tdjax.Packed)):
            return None  # smaller blocks are refused now and then
        fails = _CANNOT in str(error) or _vmap_fails(program, step, level, loop, args)
        return None if fails else _crash(trial, error, level)
    found = difference(expected, actual)
    if found is None:
        return None
    name, text, error = found
    if error <= 100 * _noise(loop, level, args, mask, expected):
        return None
    if level.startswith("second") and _is_lost_in_scan(program, step, loop, level, args):
        return None
    folds = isinstance(trial.strategy, (tdjax.Fold, tdjax.Packed))
    if not folds and has_rules(program) and _vmap_gives_other_values(program, step, loop, args):
        return None
    return Failure(f"wrong {name}", str(trial), text, level)


_CANNOT = "can't apply forward-mode autodiff (jvp) to a custom_vjp function"
"""What JAX says to `jax.lax.scan` of `jax.vmap` of a rule with another rule inside it."""


def _is_lost_in_scan(
    program: Program, step: Any, loop: Loop, level: str, args: Sequence[Any]
) -> bool:
    """Say whether the loop itself has other second derivatives as `jax.lax.scan`.

    Up to 0.10, JAX forgets `custom_jvp` rules in a scan that it linearizes: those that stand in the
    forward function of a `custom_vjp`, say. A rule that is no derivative shows it.
    """
    axes = program.in_axes()
    where = [place for place, axis in enumerate(axes) if axis is not None]

    def scanned(*args: Any) -> Any:
        def turn(_: None, parts: Sequence[Any]) -> tuple[None, Any]:
            given = dict(zip(where, parts, strict=True))
            return None, step(*(given.get(place, arg) for place, arg in enumerate(args)))

        moved = [jnp.moveaxis(args[place], axes[place], 0) for place in where]
        return jax.lax.scan(turn, None, moved)[1]

    actual = of_strategy(scanned, level, args, loop.directions, None)
    return difference(loop(level, loop.args), actual) is not None


def _vmap_gives_other_values(program: Program, step: Any, loop: Loop, args: Sequence[Any]) -> bool:
    """Say whether `jax.vmap` has other values than the loop where it is differentiated.

    Of a compiled function with a rule, JAX (0.10 to 0.12) takes the steps of the rule's value for
    those of another axis, if the function itself has them along another.
    """
    for mapped in _mapped(program, step):
        actual = of_strategy(mapped, "gradients", args, loop.directions, None)
        found = difference(loop("gradients", loop.args), actual)
        if found is not None and found[0] == "value":
            return True
    return False


def _vmap_fails(program: Program, step: Any, level: str, loop: Loop, args: Sequence[Any]) -> bool:
    """Say whether JAX cannot map this step function, with shared arrays or copies of them."""
    try:
        for mapped in _mapped(program, step):
            of_strategy(mapped, level, args, loop.directions, None)
    except Exception:
        return True
    return False


def _mapped(program: Program, step: Any) -> list[Any]:
    """Return the step under `jax.vmap`, with shared arrays and with copies of them."""
    everywhere = [0 if axis is None else axis for axis in program.in_axes()]

    def mapped_with_copies(*args: Any) -> Any:
        given = zip(args, program.in_axes(), strict=True)
        copied = [jnp.stack([x] * program.time) if axis is None else x for x, axis in given]
        return jax.vmap(step, everywhere)(*copied)

    return [jax.vmap(step, program.in_axes()), mapped_with_copies]


def _crash(trial: Any, error: Exception, level: str = "values") -> Failure:
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0] if lines else ''}"
    return Failure(
        "crash", str(Trial(trial) if not isinstance(trial, Trial) else trial), text, level
    )


def _mask(program: Program) -> np.ndarray:
    """Return a mask; all steps are real where the rows of an output are not to be told.

    They are merged with other axes, or the output may be made from a shared array that leads with
    the batch: a proof takes that for rows if it finds no other.
    """
    types = program.types()
    outputs = [types[name] for name in program.outputs if name in types]
    may_be_rows = any(
        each.axis is None and each.shape[:1] == (program.batch,) for each in program.arrays
    )
    plain = all(
        (not each.row_axes and not may_be_rows)
        or (len(each.row_axes) == 1 and each.small[each.row_axes[0]] == program.batch)
        for each in outputs
    )
    mask = np.ones((program.batch, program.time), bool)
    if plain:
        mask = np.random.default_rng(program.batch).random(mask.shape) > 0.4
        mask[0, 0] = True
    return mask


def _noise(loop: Loop, level: str, args: Sequence[Any], mask: Any, expected: Answer) -> float:
    """Return how much the loop's own answer moves when its arguments move by rounding."""
    moved = 0.0
    for seed in range(2):
        rng = np.random.default_rng(seed)
        nearby = [
            arg * (1 + 1e-11 * rng.normal(size=arg.shape)) if is_inexact(arg) else arg
            for arg in args
        ]
        again = loop(level, nearby, mask)
        for ours, theirs in zip(again.groups, expected.groups, strict=True):
            for mine, right in zip(ours, theirs, strict=True):
                wide = np.abs(mine.astype(complex) - right.astype(complex))
                moved = max(moved, float(wide.max()) if wide.size else 0.0)
    return moved
