"""What every strategy is: a frozen description that runs a call and answers what others ask."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from tdjax.core import typed
from tdjax.core.call import Call
from tdjax.costs.blocks import Blocks
from tdjax.independence import Proven


class InOrder(NamedTuple):
    """How a loop runs steps one after the other.

    Attributes:
        unroll: steps per turn of the loop; True for all of them.
        remat: whether the backward pass recomputes a step instead of keeping what it computed.
    """

    unroll: bool | int = 1
    remat: bool = False


@dataclasses.dataclass(frozen=True)
class Strategy(abc.ABC):
    """A way to compute `time_distributed`, hashable and comparable; never another meaning.

    A new strategy is a file with one frozen dataclass and a line `register(...)` in `names.py`. Its
    fields are its options; they are numbers, strings, bools or None, so that a text and a file can
    hold them. It has to write `run` alone. What else is here are the questions that the rest of the
    package asks of a strategy, so that nothing asks for its class. The answers given here are safe
    for every strategy; one that can do more says so.

    Attributes:
        folds: whether it calls the function on rows of different steps at once, which needs the
            proof that rows are independent. Steps seen whole, one or several, are no fold.
        packs: whether it computes nothing in masked steps.
        decides: whether it picks another strategy for each call, as `decide` says.
    """

    folds: ClassVar[bool] = True
    packs: ClassVar[bool] = False
    decides: ClassVar[bool] = False

    @abc.abstractmethod
    def run(self, call: Call, proven: Proven | None = None) -> Any:
        """Return the output of a call with at least one step, time stacked at its `out_axes`.

        Args:
            call: the call; on a mesh, one device's part of it.
            proven: what is known of its rows already, which may be that they are not independent;
                None where they have not been looked at.

        Raises:
            StrategyError: the strategy cannot keep the meaning of the loop for this call.
        """

    def decide(self, call: Call) -> Any:
        """Return the `Decision` of a strategy that picks another one; None of any other."""
        return None

    # How it goes through the rows: what it is predicted by, and what it is proven on.

    def blocks(self, batch: int, time: int) -> Blocks | None:
        """Return how it goes through the rows of a call; None where that is not known."""
        return None

    def rows_at_once(self, call: Call) -> Any:
        """Return how many rows a fold calls the function on; the proof traces it on so many."""
        blocks = self.blocks(call.batch, call.time)
        return call.batch * call.time if blocks is None else blocks.rows

    @property
    def at_once(self) -> bool:
        """Whether all rows of all steps are computed at once, whatever the sizes."""
        return False

    @classmethod
    def candidates(
        cls, batch: int, time: int, remat: bool, operations: int, own_forms: bool
    ) -> Sequence[Strategy]:
        """Return the forms of it that `auto` and `tune` choose among; see `ranking.candidates`."""
        return ()

    # Its forms for layers that need more than a pure function: None where it has no such form.

    def by_step(self) -> Strategy | None:
        """Return the form that sees each step by itself, for the batch statistics of each."""
        return None if self.folds else self

    def in_order(self) -> InOrder | None:
        """Return how it runs one step after the other, for state that goes from step to step."""
        return None

    def as_one_batch(self, call: Call) -> Strategy | None:
        """Return the form that calls the function once, on the rows of all steps of a call."""
        return None

    def along_axis(self, call: Call) -> Strategy | None:
        """Return the form that binds a name over all steps of a call, for `jax.lax.pmean`."""
        return None

    # Where it is not differentiated.

    def without_remat(self) -> Strategy:
        """Return the strategy that is the same program where nothing is differentiated."""
        return self

    # What the caller vouches for.

    def on_proof(self) -> Strategy:
        """Return the same strategy without the caller's word that rows are independent."""
        return self

    @property
    def trusts_caller(self) -> bool:
        """Whether the caller vouches that rows are independent, so that nothing is proven."""
        return self != self.on_proof()

    def __str__(self) -> str:
        if self in SHORTHANDS:
            return SHORTHANDS[self]
        given = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"


KINDS: dict[str, type[Strategy]] = {}
"""The kinds of strategies by the names of their classes; `names.register` fills it."""

SHORTHANDS: dict[Strategy, str] = {}
"""The strategies that have a name of their own; `names.register` fills it."""


def to_data(strategy: Strategy) -> dict[str, Any]:
    """Return a strategy as JSON values."""
    return {"kind": type(strategy).__name__, "options": dataclasses.asdict(strategy)}


def from_data(kind: str, options: Mapping[str, Any]) -> Strategy | None:
    """Return the strategy that `to_data` wrote, None for one that this version does not know.

    A file is no word to fold on: rows are proven to be independent.
    """
    try:
        return typed.read(KINDS[kind], options).on_proof()
    except (KeyError, TypeError, ValueError):
        return None
