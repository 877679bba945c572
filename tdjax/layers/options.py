"""The settings of a wrapper, checked where it is made."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from tdjax.core.axes import Axes, check_axes
from tdjax.function import TimeOptions
from tdjax.partition import check_partition
from tdjax.strategies import Strategy, parse


@dataclasses.dataclass(frozen=True, repr=False)
class Options:
    """What both wrappers take beside the layer; see `tdjax.linen.TimeDistributed`."""

    strategy: Strategy
    rng: Literal["split", "shared"] = "split"
    pooled: bool | None = None
    state: Literal["carry"] | None = None
    sum_collections: tuple[Any, ...] = ()
    in_axes: Axes = 1
    out_axes: Axes = 1
    masked_output: Literal["zero", "keep"] = "zero"
    partition: Any = None

    def of_a_function(self) -> TimeOptions:
        """Return what applies where the layer is a plain function."""
        return TimeOptions(
            in_axes=self.in_axes,
            out_axes=self.out_axes,
            strategy=self.strategy,
            pooled=self.pooled is True,
            masked_output=self.masked_output,
            partition=self.partition,
        )

    def shown(self) -> dict[str, str]:
        """Return the strategy, and what else differs from its default, as they are written."""
        strategy = str(self.strategy)
        texts = {"strategy": strategy if strategy.endswith(")") else repr(strategy)}
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                texts[field.name] = repr(value)
        return texts

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={text}' for name, text in self.shown().items())})"


def make_options(
    strategy: Any = "auto",
    rng: Any = "split",
    pooled: Any = None,
    state: Any = None,
    sum_collections: Any = (),
    in_axes: Axes = 1,
    out_axes: Axes = 1,
    masked_output: Any = "zero",
    partition: Any = None,
) -> Options:
    """Return checked settings.

    Raises:
        ValueError, TypeError: a setting is not one of its choices.
    """
    _one_of("rng", rng, ("split", "shared"))
    _one_of("pooled", pooled, (None, True, False))
    _one_of("state", state, (None, "carry"))
    _one_of("masked_output", masked_output, ("zero", "keep"))
    if isinstance(sum_collections, (str, type)):
        raise TypeError(
            f"sum_collections is {sum_collections!r}; it must be a tuple: ({sum_collections!r},)."
        )
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    check_axes("in_axes", in_axes)
    check_axes("out_axes", out_axes)
    check_partition(partition)
    return Options(
        parse(strategy),
        rng,
        pooled,
        state,
        tuple(sum_collections),
        in_axes,
        out_axes,
        masked_output,
        partition,
    )


def _one_of(name: str, value: Any, choices: tuple) -> None:
    if not any(value is choice or (type(value) is str and value == choice) for choice in choices):
        *first, last = map(repr, choices)
        raise ValueError(f"{name} is {value!r}; it must be {', '.join(first)} or {last}.")
