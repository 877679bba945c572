"""What a Flax wrapper is made with, and what it is called with."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from tdjax.core.axes import Axes
from tdjax.function import TimeOptions
from tdjax.strategies import NAMES, Strategy, parse


@dataclasses.dataclass(frozen=True, repr=False)
class Options:
    """What both wrappers take beside the layer, checked; see `tdjax.linen.TimeDistributed`.

    Raises:
        ValueError, TypeError: an option is not one of its choices.
    """

    strategy: Strategy = NAMES["auto"]
    rng: Literal["split", "shared"] = "split"
    pooled: bool | None = None
    state: Literal["carry"] | None = None
    sum_collections: tuple[Any, ...] = ()
    in_axes: Axes = 1
    out_axes: Axes = 1
    masked_output: Literal["zero", "keep"] = "zero"
    partition: Any = None

    def __post_init__(self) -> None:
        _check_choice("rng", self.rng, ("split", "shared"))
        _check_choice("pooled", self.pooled, (None, True, False))
        _check_choice("state", self.state, (None, "carry"))
        _check_choice("masked_output", self.masked_output, ("zero", "keep"))
        if isinstance(self.sum_collections, (str, type)):
            given = self.sum_collections
            raise TypeError(f"sum_collections is {given!r}; it must be a tuple: ({given!r},).")
        object.__setattr__(self, "sum_collections", tuple(self.sum_collections))
        object.__setattr__(self, "strategy", parse(self.strategy))
        if isinstance(self.in_axes, list):
            object.__setattr__(self, "in_axes", tuple(self.in_axes))
        self.for_function().check()

    def for_function(self) -> TimeOptions:
        """Return the options that a plain function has as well."""
        return TimeOptions(
            in_axes=self.in_axes,
            out_axes=self.out_axes,
            strategy=self.strategy,
            pooled=self.pooled is True,
            masked_output=self.masked_output,
            partition=self.partition,
        )

    def shown(self) -> dict[str, str]:
        """Return the strategy, and what differs from its default, as they are written."""
        strategy = str(self.strategy)
        texts = {"strategy": strategy if strategy.endswith(")") else repr(strategy)}
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                texts[field.name] = repr(value)
        return texts

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={text}' for name, text in self.shown().items())})"


@dataclasses.dataclass(frozen=True, eq=False)
class Arguments:
    """What a wrapper is called with; see `tdjax.linen.TimeDistributed.__call__`."""

    args: tuple
    kwargs: dict[str, Any]
    mask: Any = None
    seq_lengths: Any = None


def _check_choice(name: str, value: Any, choices: tuple) -> None:
    if not any(value is choice or (type(value) is str and value == choice) for choice in choices):
        *first, last = map(repr, choices)
        raise ValueError(f"{name} is {value!r}; it must be {', '.join(first)} or {last}.")
