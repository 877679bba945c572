"""Chooses how to run a layer, by what it writes and what the caller asked for."""

from __future__ import annotations

from tdjax.core.errors import StrategyError
from tdjax.layers.effects import Depends, Effects
from tdjax.layers.layer_call import Job, Way
from tdjax.strategies import Fold


def choose_ways(job: Job, effects: Effects | None) -> list[Way]:
    """Return the ways to run a call, best first; all but the last may turn out not to fit.

    Raises:
        StrategyError: the strategy cannot do what the layer or the settings need.
    """
    strategy, pooled = job.options.strategy, job.options.pooled
    statistics = written(job, effects, "statistic")
    if statistics and pooled is False:
        check_spread(job, effects, [])
        return [_each_step(job)]
    if statistics:
        local = [name for name, depends in statistics.items() if depends is Depends.ITS_STEP]
        check_spread(job, effects, local)
        return _pooled(job, local)
    if pooled is True:
        return [Way(Fold() if strategy.decides else strategy, pooled=True)]
    return [Way(strategy)]


def check_spread(job: Job, effects: Effects | None, local: list[str]) -> None:
    """Raise StrategyError unless batch statistics can be those of all devices.

    Args:
        job: the call, or a device's part of it.
        effects: what a step writes.
        local: statistics that are not averaged over a named axis.
    """
    if job.block is None:
        return
    title, over = job.layer.title, ", ".join(map(repr, job.block.where.names))
    if job.block.mixing and job.options.pooled is not False:
        raise StrategyError(
            f"{title} updates batch statistics over batch and time, which are spread over {over}, "
            f"and beside them its rows are not independent, because {job.block.mixing}. "
            f"Use partition=PartitionSpec(), which leaves spreading to XLA, or pooled=False."
        )
    assert effects is not None
    apart = {name for axis in job.block.where.batch for name in effects.local_to(axis)}
    local = sorted({*local, *apart.intersection(written(job, effects, "statistic"))})
    if local:
        raise StrategyError(
            f"{title} updates {', '.join(local)} without averaging over a named axis as flax's "
            f"BatchNorm does, so that they would be those of one device: the rows are spread over "
            f"{over}. Use partition=PartitionSpec(), which leaves spreading to XLA."
        )


def written(job: Job, effects: Effects | None, role: str) -> dict[str, Depends]:
    """Return the variables of a role that the layer gives a value from its data."""
    if effects is None:
        return {}
    return {
        name: depends
        for name, depends in effects.written.items()
        if job.layer.role(name) == role and depends is not Depends.NOTHING
    }


def _each_step(job: Job) -> Way:
    strategy = job.options.strategy.by_step()
    if strategy is None:
        raise StrategyError(
            f"{job.layer.title} updates batch statistics step by step (pooled=False), but "
            f'strategy="{job.options.strategy}" mixes rows of different steps. Use '
            f'strategy="vmap", "map" or "unroll".'
        )
    return Way(strategy, each=True, masked=job.mask is not None)


def _pooled(job: Job, local: list[str]) -> list[Way]:
    """Return the ways to pool statistics over batch and time."""
    strategy, masked = job.options.strategy, job.mask is not None
    fold, vmap = strategy.as_one_batch(job.bound), strategy.along_axis(job.bound)
    able = [] if fold is None else [Way(fold, pooled=True, masked=masked)]
    if vmap is not None and not masked and not local:
        able.append(Way(vmap, axis_name=job.axis_name))
    if able:
        return able
    if vmap is None:
        ways = '"fold" with the mask,' if masked else '"vmap" or "fold"'
        raise StrategyError(
            f"{job.layer.title} updates batch statistics over batch and time (pooled=None), which "
            f"needs all steps at once, and strategy={str(strategy)!r} takes them in blocks. Use "
            f"strategy={ways} without chunk_size, or pooled=False for the statistics of each step."
        )
    if masked:
        raise StrategyError(
            f"{job.layer.title} updates batch statistics over batch and time, and a mask leaves a "
            f"different number of rows in every step: strategy={str(strategy)!r} would weigh all "
            f'steps alike. Use strategy="fold" (or "auto"), or pooled=False.'
        )
    raise StrategyError(
        f"{job.layer.title} updates {', '.join(local)} without averaging over a named axis as "
        f"flax's BatchNorm does, so that strategy={str(strategy)!r} cannot pool it over time. "
        f'Use strategy="fold" (or "auto"), or pooled=False.'
    )


def check_state(job: Job, effects: Effects | None) -> bool:
    """Say whether the steps must run in order, since they hand state on.

    Raises:
        StrategyError: some state differs between steps and nobody said what that is to mean.
    """
    state = written(job, effects, "state")
    names = [name for name, depends in state.items() if depends is not Depends.NOTHING]
    if not names:
        return _counts(job, effects)
    _check_order(job)
    if job.options.state != "carry":
        raise StrategyError(
            f"{job.layer.title} writes {', '.join(names)}, which comes out differently for every "
            f'step. Use state="carry" to run the steps in order, each going on from the state of '
            f"the one before; or name the collection in sum_collections if its values are to be "
            f"added up."
        )
    return True


def _counts(job: Job, effects: Effects | None) -> bool:
    """Say whether state that no data enters is to be carried on: a counter then counts steps."""
    if effects is None or job.options.state != "carry":
        return False
    counts = any(job.layer.role(name) == "state" for name in effects.written)
    if counts:
        _check_order(job)
    return counts


def _check_order(job: Job) -> None:
    """Raise StrategyError if steps that hand on state are on different devices."""
    if job.options.state == "carry" and job.block is not None and job.block.where.time:
        raise StrategyError(
            f'{job.layer.title} has state="carry", whose steps run one after the other, and they '
            f"are spread over a mesh. Spread the batch alone, or use partition=PartitionSpec()."
        )
