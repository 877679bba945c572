"""The public function `tdjax.compare`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp

from tdjax.comparison.calibration import calibrate_first
from tdjax.comparison.comparison import Comparison
from tdjax.comparison.measuring.rounds import Effort, check_effort
from tdjax.comparison.session import Mode, Session, modes
from tdjax.comparison.subjects.benchmark import Made, Series, check_densities
from tdjax.comparison.subjects.partitioned import Partitioned, has_devices
from tdjax.comparison.subjects.strategy_list import parse_strategies
from tdjax.comparison.subjects.subject import Subject, own_option, subject
from tdjax.comparison.subjects.thinned_masks import thinned
from tdjax.comparison.system.progress import Progress, told
from tdjax.comparison.targets.target import Target, resolve
from tdjax.core.axes import Axes
from tdjax.core.mask import MaskLike, lengths_to_mask
from tdjax.flax_guard import StepLike
from tdjax.strategies import StrategyLike

DEFAULT_STRATEGIES: tuple[StrategyLike, ...] = ("vmap", "fold", "map", "unroll", "auto")


def compare(
    fun: StepLike,
    *args: Any,
    in_axes: Axes = 1,
    out_axes: Axes = 1,
    strategies: Sequence[StrategyLike] = DEFAULT_STRATEGIES,
    targets: Sequence[str] | str | None = None,
    mode: Mode = "forward",
    mask: MaskLike = None,
    seq_lengths: MaskLike = None,
    valid_fractions: Sequence[float] | None = None,
    kwargs: dict[str, Any] | None = None,
    partition: Any = None,
    rounds: int | None = None,
    timeout: float = 60.0,
    control: bool = False,
    calibrate: bool = True,
    workload: str | None = None,
    progress: Progress | bool | None = None,
) -> Comparison:
    """Measure strategies on one function, and check that they give the same answer.

    Every strategy is traced, lowered, compiled and first called apart from the samples. The
    samples are taken in rounds, every candidate once a round in random order, and compared
    round by round. A candidate that fails, disagrees with `vmap` or is far slower than the
    leader becomes a row with its reason; two that compile to the same program are said to
    be the same.

    For a target that is not attached, nothing runs: its compiler makes the programs, in another
    process, and what it says is ranked apart from what was measured.

    Args:
        fun: what runs on one step: a function, a function wrapped by `time_distributed`, a
            Linen module (initialized here, with a fixed key) or an NNX module.
        *args: its arguments with their time axes, `(batch, time, *features)`.
        in_axes: where they have them, as for `time_distributed`; a wrapped function brings
            its own.
        out_axes: where the outputs get theirs.
        strategies: strategy objects or shorthand names; by default vmap, fold, map, unroll and
            auto. With a mask, "packed" joins the default.
        targets: "cpu", "gpu", "tpu" for what is attached; "tpu:v5e", "gpu:h100", ... for what
            is not (`tdjax targets` lists them), "tpu:v5e:2x4" with a topology for arrays on
            several devices; or several targets. None is JAX's default device.
        mode: "forward"; "grad": forward and gradient together, by one fixed random cotangent,
            for every inexact argument and module parameter; or "both", one after the other.
        mask: bool `(batch, time)`, passed on.
        seq_lengths: int `(batch,)`, passed on.
        valid_fractions: which parts of all steps are real, such as `(0.25, 0.5, 1.0)`: every
            strategy is measured with a mask for each part, as a workload of its own, and
            `plot(path, "density")` draws time against them. The masks keep steps that `mask` or
            `seq_lengths` keeps before others.
        kwargs: keyword arguments for every step.
        partition: as for `time_distributed`. Every strategy is compared as XLA partitions it,
            and as it runs on every device's own block, "fold (partitioned)". The arguments
            stay where they are; a `NamedSharding` places them, and its mesh may be a
            `jax.sharding.AbstractMesh` of devices that are not attached, such as "tpu:v5e:2x4".
        rounds: how many samples of each candidate; None: until it is clear whether vmap or fold is
            faster, how auto does, and who is fastest, for a few seconds at most.
        timeout: seconds that one call may take before its candidate is cut, or the compiling of
            one program for a target that is not attached.
        control: measure the reference twice, the second time compiled again, as "vmap (again)":
            where it differs from itself, nothing is clear.
        calibrate: measure this machine's speeds first if `auto` runs here and that was never done,
            as `tdjax.calibrate` does.
        workload: the name in the table; None takes the function's.
        progress: True shows how far it is on standard error; or an object with the methods
            `update(text, fraction)` and `log(text)`.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: an unknown strategy, target or mode; nothing to differentiate.
        ImportError: no target's compiler is installed. Where some are, it warns about the others.
        TypeError: `fun` is a class or cannot be called.
        Exception: the function's own error, where it cannot be traced.

    Example:
        >>> import jax.numpy as jnp
        >>> import tdjax
        >>> x = jnp.ones((4, 8, 16))  # (batch, time, features)
        >>> result = tdjax.compare(jnp.tanh, x, strategies=("vmap", "fold"), rounds=5)
        >>> [entry.strategy for entry in result.entries]
        ['vmap', 'fold']
    """
    wanted = modes(mode)
    masked = any(given is not None for given in (mask, seq_lengths, valid_fractions))
    if masked and strategies is DEFAULT_STRATEGIES:
        strategies = (*DEFAULT_STRATEGIES, "packed")
    chosen = parse_strategies(strategies)
    check_effort(rounds, timeout)
    partition = own_option(fun, "partition", partition) if partition is None else partition
    if partition is not None:
        chosen += [Partitioned(strategy, partition) for strategy in chosen]
    make = partial(
        subject,
        fun,
        args,
        in_axes=in_axes,
        out_axes=out_axes,
        kwargs=kwargs,
        partition=partition,
        name=workload,
    )

    made = make(mask=mask, seq_lengths=seq_lengths)

    def at(part: float | None) -> Made:
        if part is None:
            return made, chosen
        known = mask if seq_lengths is None else lengths_to_mask(seq_lengths, _time(made))
        return make(mask=jnp.asarray(thinned(known, made.steps, part))), chosen

    series = Series(made.name, at)
    benchmarks = series.benchmarks(valid_fractions, placed=partition is not None)
    resolved = resolve(targets)
    _check_devices(partition, resolved)
    check_densities(benchmarks, resolved)
    effort = Effort(rounds=rounds, timeout_s=timeout)
    with told(progress) as shown_progress:
        if calibrate and chooses(chosen, resolved):
            calibrate_first(shown_progress)
        session = Session(resolved, wanted, effort, shown_progress, control=control)
        session.run(benchmarks)
    return session.comparison()


def chooses(strategies: Sequence[Any], targets: Sequence[Target]) -> bool:
    """Say whether one of the strategies chooses by this machine's speeds."""
    here = any(target.evidence == "measured" for target in targets)
    return here and any(getattr(each, "decides", False) for each in strategies)


def _time(made: Subject) -> int | None:
    return None if made.steps is None else made.steps.time


def _check_devices(partition: Any, targets: Sequence[Target]) -> None:
    measured = [target.name for target in targets if target.evidence == "measured"]
    if measured and not has_devices(partition):
        raise ValueError(
            f"partition is on a mesh without devices, {partition.mesh.shape}, and programs are to "
            f"run on {', '.join(measured)}: give a jax.sharding.Mesh, or targets to compile for, "
            f'such as "tpu:v5e:2x4".'
        )
