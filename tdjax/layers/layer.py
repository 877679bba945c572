"""A layer as a pure function of its variables, its keys and one step's arguments."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

Role = Literal["state", "statistic", "counter", "sown", "perturbation"]
"""What a variable means over time.

`state`: one value for all steps. `statistic`: running statistics of batch normalisation. `counter`:
how often a stream of randomness was drawn from. `sown`: made anew by every step. `perturbation`:
read by every step, with a value for each.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """What batch normalisation has to know beyond one step.

    Attributes:
        axis_names: the names to average over, too, that of the time axis and those of mesh axes;
            none for the rows at hand alone.
        mask: bool `(rows,)`, the rows that count; None for all.
        frozen: whether it takes the running statistics, as in evaluation.
    """

    axis_names: tuple[str, ...] = ()
    mask: Any = None
    frozen: bool = False


class Layer(abc.ABC):
    """One call of a layer, taken apart; variables and keys go by name.

    Attributes:
        title: what errors call it.
        function: what is called, for the names of its parameters.
        variables: every array that the layer holds.
        keys: a typed key for each of its streams of randomness.
        may_write: whether it could write to any `state` or `statistic`.
    """

    title: str
    function: Any
    variables: dict[str, Any]
    keys: dict[str, Any]
    may_write: bool

    @abc.abstractmethod
    def __call__(
        self,
        variables: dict[str, Any],
        keys: dict[str, Any],
        args: tuple,
        kwargs: dict[str, Any],
        statistics: Statistics | None,
    ) -> tuple[Any, dict[str, Any]]:
        """Return the output, and all variables as they are after the call."""

    @contextlib.contextmanager
    def holding(self, variables: dict[str, Any], keys: dict[str, Any]) -> Iterator[None]:
        """Have other values for variables and keys: those of one device."""
        before = self.variables, self.keys
        self.variables, self.keys = variables, keys
        try:
            yield
        finally:
            self.variables, self.keys = before

    @abc.abstractmethod
    def role(self, name: str) -> Role:
        """Return what a variable means over time, be it held or made by the last call."""

    @abc.abstractmethod
    def summed(self, name: str) -> bool:
        """Say whether a sown value is to be added up over the steps."""

    def place(self, name: str) -> Any:
        """Return where a variable stands in the whole model, if that is known."""
        return None
