"""A layer as a pure function of its variables, its keys and one step's arguments."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, Literal

from tdjax.core.arrays import is_array
from tdjax.function import Signature

Role = Literal["state", "statistic", "counter", "sown", "perturbation"]
"""What a variable means over time.

`state`: one value for all steps. `statistic`: running statistics of batch normalization. `counter`:
the number of draws from a stream of randomness. `sown`: made by every step. `perturbation`:
read by every step, with a value for each.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """What batch normalization has to know beyond one step.

    Attributes:
        axis_names: named axes to average over, of time and of a mesh; none for only the rows of
            this step and device.
        mask: bool `(rows,)`, the rows that count; None for all.
        frozen: whether the running statistics are used, as in evaluation.
    """

    axis_names: tuple[str, ...] = ()
    mask: Any = None
    frozen: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class StepInputs:
    """What one step of a layer is computed from.

    Attributes:
        variables: the values of the layer's variables, by name.
        keys: a typed key for each of its streams of randomness, by name.
        args, kwargs: the arguments of the step.
        statistics: for batch normalization; None to normalize with the rows of the step.
    """

    variables: dict[str, Any]
    keys: dict[str, Any]
    args: tuple
    kwargs: dict[str, Any]
    statistics: Statistics | None = None


def means_rows(function: Any, axes: int) -> bool:
    """Say whether a mask of so many axes is one to a layer's function, if it has that parameter.

    In Flax's own layers `mask` means something else than real rows (which keys attention sees,
    which elements normalization counts), and in a wrapper inside another the mask of its own time.
    These are given a mask only if it has more axes than batch and time.
    """
    module = getattr(function, "__module__", None) or ""
    return axes > 2 or not module.startswith(("flax.", "tdjax."))


class Layer(abc.ABC):
    """One call of a layer, as a function of what it holds; variables and keys go by name.

    Attributes:
        title: what errors call it.
        function: the method that is called.
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
    def __call__(self, step: StepInputs) -> tuple[Any, dict[str, Any]]:
        """Return the output, and all variables as they are after the call."""

    @abc.abstractmethod
    def role(self, name: str) -> Role:
        """Return what a variable means over time, one that is held or made by the last call."""

    @abc.abstractmethod
    def summed(self, name: str) -> bool:
        """Say whether the values that steps sow are added up."""

    def path_in_model(self, name: str) -> Any:
        """Return the path of a variable in the whole model, if that is known."""
        return None

    @functools.cached_property
    def signature(self) -> Signature:
        """The parameters of one step, as errors call them."""
        found = Signature.of(self.function, is_method=True)
        return Signature(self.title, found.names, found.has_mask)

    def takes_mask(self, mask: Any) -> bool:
        """Say whether the layer is given its step's part of the mask."""
        if mask is None or not means_rows(self.function, mask.ndim):
            return False
        return self.signature.has_mask

    @property
    def array_names(self) -> list[str]:
        """The names of the variables that are arrays, in the order that JAX flattens them."""
        return sorted(name for name, value in self.variables.items() if is_array(value))

    @contextlib.contextmanager
    def holding(self, variables: dict[str, Any], keys: dict[str, Any]) -> Iterator[None]:
        """Use the variables and keys of one device instead."""
        before = self.variables, self.keys
        self.variables, self.keys = variables, keys
        try:
            yield
        finally:
            self.variables, self.keys = before
