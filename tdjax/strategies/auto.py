"""The strategy that picks one of the others."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, cast

from tdjax.core.byte_size import read_budget
from tdjax.core.call import Call
from tdjax.core.errors import StrategyError
from tdjax.independence import Proven
from tdjax.strategies.base import InOrder, Strategy
from tdjax.strategies.choosing.decide import decide, warn_of_budget
from tdjax.strategies.choosing.decision import Decision, record
from tdjax.strategies.fold import Fold
from tdjax.strategies.override import VARIABLE, override
from tdjax.strategies.vmap import Vmap

_SET = f"It was set by {VARIABLE} in the environment."


@dataclasses.dataclass(frozen=True)
class Auto(Strategy):
    """Take the strategy that is predicted to be the fastest of those that keep the meaning.

    What a row costs is read from the step's trace, and what the device can do is known; from both,
    `tdjax.costs` predicts how long a whole fold takes, a map, and either in blocks of many sizes.
    Folds are taken where the rows are proven to be independent. Where `tdjax.tune` has measured the
    program, its results count instead of the prediction. The choice depends on the program, its
    sizes, the kind of device and these results alone: the same input gives the same choice, and
    nothing is run or compiled to find it.

    A call that is not differentiated takes what is fastest forward; one that is takes what is
    fastest for a forward pass with its gradient, in derivatives of any order. Where the two differ,
    `f(x)` and `jax.value_and_grad(f)(x)[0]` may differ by rounding. One strategy is taken for both
    where it is as good, in what has effects (a print, a callback, an array changed in place), and
    within the steps of another call.

    `TDJAX_STRATEGY=vmap` in the environment, or any other strategy's text, takes its place in a
    whole process, to find out what a choice changes: but where time has a name, steps are pooled,
    or a layer needs another way. `compare` and `tune` do not heed it. The logger "tdjax" says each
    decision once a program, at debug level.

    Args:
        memory_budget: bytes of temporary memory that may be taken, as a number or "64MB", in the
            backward pass too unless the mode is "forward"; None for as much as is fastest. What
            tuning has compiled is known to fit or not; of the rest only what surely fits is taken,
            by a bound that is far from tight. If nothing surely fits, it warns, and takes what
            needs least.
        mode: "both" for the fastest forward, and the fastest with gradients where they are asked
            for; "forward" takes the first for both. Where one strategy must do, "both" takes that
            of the smallest sum of both times.
        valid_fraction: the part of all steps that masks usually keep, from 0 to 1: it tells
            whether to pack them where a mask's values are not known. None assumes three quarters.

    >>> Auto(mode="forward")
    Auto(memory_budget=None, mode='forward', valid_fraction=None)
    """

    folds = False  # what it picks keeps the meaning
    decides = True

    memory_budget: int | str | None = None
    mode: Literal["both", "forward"] = "both"
    valid_fraction: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory_budget", read_budget(self.memory_budget))
        if self.mode not in ("both", "forward"):
            raise ValueError(f'Auto(mode={self.mode!r}): mode must be "both" or "forward".')
        fraction = self.valid_fraction
        if fraction is not None and (isinstance(fraction, bool) or not 0 <= fraction <= 1):
            raise ValueError(
                f"Auto(valid_fraction={fraction!r}): valid_fraction must be a number from 0 to 1, "
                f"the part of all steps that is real, or None."
            )

    def run(self, call: Call, proven: Proven | None = None) -> Any:
        """Run the call under the strategy that suits it."""
        other = override()
        decision = self._decide_unless(other, call)
        record(decision)
        warn_of_budget(decision, (other if isinstance(other, Auto) else self)._bytes)
        try:
            return decision.run()
        except StrategyError as error:
            if decision.reason == _SET:
                error.add_note(f"{decision.strategy} was set by {VARIABLE} in the environment.")
            raise

    def decide(self, call: Call) -> Decision:
        """Return what would run, and why; nothing is run or compiled."""
        return self._decide_unless(override(), call)

    def _decide_unless(self, other: Strategy | None, call: Call) -> Decision:
        """Return what would run, where another strategy may be set in the environment."""
        if isinstance(other, Auto):
            return other._decide(call)
        if other is None or call.axis_name is not None or call.pooled:
            return self._decide(call)
        return Decision(call, other, _SET)

    def _decide(self, call: Call) -> Decision:
        return decide(call, self.mode, self._bytes, self.valid_fraction)

    @property
    def _bytes(self) -> int | None:
        return cast("int | None", self.memory_budget)  # texts have been read

    def by_step(self) -> Strategy:
        """Return the reference, which sees each step by itself."""
        other = _set_apart()
        return (other and other.by_step()) or Vmap()

    def in_order(self) -> InOrder:
        """Return the plain loop."""
        other = _set_apart()
        return (other and other.in_order()) or InOrder()

    def as_one_batch(self, call: Call) -> Strategy | None:
        """Return the fold of all rows."""
        other = _set_apart()
        if other is not None and other.along_axis(call) is not None:
            return other.as_one_batch(call)
        return Fold()

    def along_axis(self, call: Call) -> Strategy | None:
        """Return the reference, which binds a name over all steps."""
        other = _set_apart()
        if other is not None and other.as_one_batch(call) is not None:
            return other.along_axis(call)
        return Vmap()


def _set_apart() -> Strategy | None:
    """Return the strategy that the environment sets, if it is another than `auto`."""
    other = override()
    return None if other is None or other.decides else other
