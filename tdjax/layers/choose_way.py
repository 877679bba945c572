"""Chooses how to run a layer, by what it writes and what the caller asked for."""

from __future__ import annotations

from tdjax.core.errors import StrategyError
from tdjax.layers.effects import Depends, Effects
from tdjax.layers.layer_call import LayerCall, Way
from tdjax.strategies import Fold


def choose_ways(call: LayerCall, effects: Effects | None) -> list[Way]:
    """Return the ways to run a call, best first; all but the last may fail with StrategyError.

    Raises:
        StrategyError: the strategy cannot do what the layer or the options need.
    """
    strategy, pooled = call.options.strategy, call.options.pooled
    statistics = written(call, effects, "statistic")
    if statistics and pooled is False:
        check_statistics_on_mesh(call, effects, [])
        return [_each_step(call)]
    if statistics:
        local = [name for name, depends in statistics.items() if depends is Depends.ITS_STEP]
        check_statistics_on_mesh(call, effects, local)
        return _pooled(call, local)
    if pooled is True:
        strategy = Fold() if strategy.decides else strategy
        return [Way(strategy, pooled=True, reason="All steps are one batch (pooled=True).")]
    return [Way(strategy)]


def check_statistics_on_mesh(call: LayerCall, effects: Effects | None, local: list[str]) -> None:
    """Raise StrategyError unless batch statistics can be computed over all devices.

    Args:
        call: the call, or a device's part of it.
        effects: what a step writes.
        local: statistics that are not averaged over a named axis.
    """
    if call.part is None:
        return
    title, over = call.layer.title, ", ".join(map(repr, call.part.where.names))
    if call.part.mixing and call.options.pooled is not False:
        raise StrategyError(
            f"{title} updates batch statistics over batch and time, which are spread over {over}, "
            f"and apart from them its rows are not independent, because {call.part.mixing}. "
            f"Use partition=PartitionSpec(), which leaves spreading to XLA, or pooled=False."
        )
    assert effects is not None
    differing = {name for axis in call.part.where.batch for name in effects.local_to(axis)}
    local = sorted({*local, *differing.intersection(written(call, effects, "statistic"))})
    if local:
        raise StrategyError(
            f"{title} updates {', '.join(local)} without averaging over a named axis as flax's "
            f"BatchNorm does, so every device would have its own: the rows are spread over {over}. "
            f"Use partition=PartitionSpec(), which leaves spreading to XLA."
        )


def written(call: LayerCall, effects: Effects | None, role: str) -> dict[str, Depends]:
    """Return the variables of a role whose new values depend on the data."""
    if effects is None:
        return {}
    return {
        name: depends
        for name, depends in effects.written.items()
        if call.layer.role(name) == role and depends is not Depends.NOTHING
    }


def _each_step(call: LayerCall) -> Way:
    strategy = call.options.strategy.by_step()
    if strategy is None:
        raise StrategyError(
            f"{call.layer.title} updates batch statistics step by step (pooled=False), but "
            f'strategy="{call.options.strategy}" mixes rows of different steps. Use '
            f'strategy="vmap", "map" or "unroll".'
        )
    reason = "Batch statistics are those of each step (pooled=False)."
    return Way(strategy, each=True, masked=call.mask is not None, reason=reason)


def _pooled(call: LayerCall, local: list[str]) -> list[Way]:
    """Return the ways to pool statistics over batch and time."""
    strategy, masked = call.options.strategy, call.mask is not None
    fold, vmap = strategy.as_one_batch(call.bound), strategy.along_axis(call.bound)
    reason = "It updates batch statistics over batch and time, which needs all steps at once."
    able = [] if fold is None else [Way(fold, pooled=True, masked=masked, reason=reason)]
    if vmap is not None and not masked and not local:
        able.append(Way(vmap, axis_name=call.axis_name, reason=reason))
    if able:
        return able
    if vmap is None:
        ways = '"fold" with the mask,' if masked else '"vmap" or "fold"'
        raise StrategyError(
            f"{call.layer.title} updates batch statistics over batch and time, which "
            f"needs all steps at once, and strategy={str(strategy)!r} takes them in blocks. Use "
            f"strategy={ways} without chunk_size, or pooled=False for the statistics of each step."
        )
    if masked:
        raise StrategyError(
            f"{call.layer.title} updates batch statistics over batch and time, and a mask leaves a "
            f"different number of rows in every step: strategy={str(strategy)!r} would weigh all "
            f'steps alike. Use strategy="fold" (or "auto"), or pooled=False.'
        )
    raise StrategyError(
        f"{call.layer.title} updates {', '.join(local)} without averaging over a named axis as "
        f"flax's BatchNorm does, so that strategy={str(strategy)!r} cannot pool it over time. "
        f'Use strategy="fold" (or "auto"), or pooled=False.'
    )


def runs_in_order(call: LayerCall, effects: Effects | None) -> bool:
    """Say whether the steps must run in order, because each continues from the state before it.

    With `state="carry"` that includes state that no data enters, as of a counter of steps.

    Raises:
        StrategyError: state differs between steps without `state="carry"`, or the steps that carry
            it are on different devices.
    """
    names = list(written(call, effects, "state"))
    if call.options.state != "carry":
        if not names:
            return False
        raise StrategyError(
            f"{call.layer.title} writes {', '.join(names)}, which is different after every step. "
            f'Use state="carry" to run the steps in order, each continuing from the state of the '
            f"one before; or name the collection in sum_collections to add up its values."
        )
    if effects is None or not any(call.layer.role(name) == "state" for name in effects.written):
        return False
    if call.part is not None and call.part.where.time:
        raise StrategyError(
            f'{call.layer.title} has state="carry", whose steps run one after the other, and they '
            f"are spread over a mesh. Spread only the batch, or use partition=PartitionSpec()."
        )
    return True
