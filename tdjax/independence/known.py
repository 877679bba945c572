"""Whole numbers that a program computes from literals and counting alone, in each of two traces.

Before JAX reads `x[jnp.arange(n), i]`, it asks of every index whether it is negative, adds the size
of its axis, and chooses: `n` appears in literals, and in values that nobody reads in the end. None
of it depends on data. So it is computed, with NumPy, when something asks for it, and the answer is
a fact about either trace rather than a pattern that the program has to follow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tdjax.independence.kinds import NotProvenError

_LARGEST = 2**24
"""Elements of an array above which it is not computed."""

Values = tuple[np.ndarray, np.ndarray]
"""An array as the small and as the large trace compute it."""


class Known:
    """An array of whole numbers or truths whose elements are known in both traces, on demand.

    Attributes:
        depends: whether it depends on the number of rows.
        counter: the equation that counts the rows for it, if any does.
    """

    def __init__(
        self, compute: Callable[[], Values], depends: bool = False, counter: Any = None
    ) -> None:
        self._compute, self.depends, self.counter = compute, depends, counter

    @functools.cached_property
    def values(self) -> Values:
        """The array in both traces.

        Raises:
            NotProvenError: it cannot be computed.
        """
        try:
            with np.errstate(all="ignore"):
                small, large = self._compute()
            return np.asarray(small), np.asarray(large)
        except (IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
            # Another JAX may call a parameter otherwise.
            raise NotProvenError(f"is not known before it runs ({error})") from None

    def equals(self, other: Known) -> bool:
        """Say whether two arrays hold the same in both traces."""
        pairs = zip(self.values, other.values, strict=True)
        return self is other or all(np.array_equal(ours, theirs) for ours, theirs in pairs)


def literal(small: Any, large: Any, dtype: Any) -> Known:
    """Return a number that stands in the program, as either trace has it."""
    return Known(lambda: (np.asarray(small, dtype), np.asarray(large, dtype)), small is not large)


def is_whole(dtype: Any) -> bool:
    """Say whether an array holds whole numbers, or truths, that NumPy has as well."""
    return getattr(dtype, "kind", "") in "iub" and isinstance(dtype, np.dtype)


def computed(eqn: Any, inputs: Sequence[Known], counts_rows: bool) -> list[Known] | None:
    """Return the outputs of an equation on known inputs; None if they cannot be known.

    Args:
        eqn: the equation, of both traces.
        inputs: its inputs.
        counts_rows: whether it counts along the axis of the rows.
    """
    function = _FUNCTIONS.get(eqn.primitive.name)
    symbols = not all(isinstance(size, int) for size in eqn.sizes)
    if function is None or symbols or not all(is_whole(atom.dtype) for atom in eqn.outvars):
        return None
    known: Callable[..., Any] = function

    @functools.cache
    def outputs() -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
        small, large = zip(*(each.values for each in inputs), strict=True) if inputs else ((), ())
        if eqn.small is None:  # it changes nothing there
            return small, _evaluated(known, eqn.large, large)
        return _evaluated(known, eqn.small, small), _evaluated(known, eqn.large, large)

    def at(place: int) -> Callable[[], Values]:
        return lambda: (outputs()[0][place], outputs()[1][place])

    depends = counts_rows or any(each.depends for each in inputs)
    counters = (each.counter for each in inputs if each.counter is not None)
    counter = eqn if counts_rows else next(counters, None)
    return [Known(at(place), depends, counter) for place in range(len(eqn.outvars))]


def _evaluated(
    function: Callable[..., Any], eqn: Any, inputs: Sequence[np.ndarray]
) -> Sequence[np.ndarray]:
    found = function(eqn.params, *inputs)
    return found if isinstance(found, list) else [found]


def _elementwise(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return a function of arrays that computes what is the same along an axis only once."""

    def evaluate(params: dict[str, Any], *arrays: np.ndarray) -> np.ndarray:
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
        few = [_without_copies(array) for array in arrays]
        _check_size(np.broadcast_shapes(*(array.shape for array in few)))
        return np.broadcast_to(function(params, *few), shape)

    return evaluate


def _without_copies(array: np.ndarray) -> np.ndarray:
    """Return an array with size 1 along the axes that it is broadcast along."""
    return array[tuple(slice(None, None if step else 1) for step in array.strides)]


def _check_size(shape: Sequence[int]) -> None:
    if math.prod(shape) > _LARGEST:
        raise ValueError(f"an array of shape {list(shape)} is too large")


def _moving(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function for arrays of a size that may be copied."""

    def evaluate(params: dict[str, Any], *arrays: np.ndarray) -> Any:
        for array in arrays:
            _check_size(array.shape)
        return function(params, *arrays)

    return evaluate


def _iota(params: dict[str, Any]) -> np.ndarray:
    shape, axis = tuple(params["shape"]), params["dimension"]
    numbers = np.arange(shape[axis]).astype(params["dtype"])
    return np.broadcast_to(numbers.reshape([-1] + [1] * (len(shape) - axis - 1)), shape)


def _broadcast(params: dict[str, Any], array: np.ndarray) -> np.ndarray:
    shape = tuple(params["shape"])
    spread = [1] * len(shape)
    for axis, size in zip(params["broadcast_dimensions"], array.shape, strict=True):
        spread[axis] = size
    return np.broadcast_to(array.reshape(spread), shape)


def _reshape(params: dict[str, Any], array: np.ndarray) -> np.ndarray:
    if params.get("dimensions") is not None:
        raise ValueError("a transposition in a reshape")
    return array.reshape(params["new_sizes"])


def _expand(params: dict[str, Any], array: np.ndarray) -> np.ndarray:
    return np.expand_dims(array, tuple(params["dimensions"]))


def _squeeze(params: dict[str, Any], array: np.ndarray) -> np.ndarray:
    return np.squeeze(array, tuple(params["dimensions"]))


def _slice(params: dict[str, Any], array: np.ndarray) -> np.ndarray:
    strides = params["strides"] or [1] * array.ndim
    parts = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return array[tuple(slice(*part) for part in parts)]


def _unstack(params: dict[str, Any], array: np.ndarray) -> list[np.ndarray]:
    return list(np.moveaxis(array, params["axis"], 0))


def _split(params: dict[str, Any], array: np.ndarray) -> list[np.ndarray]:
    places = np.cumsum(params["sizes"])[:-1]
    return list(np.split(array, places, params["axis"]))


def _quotient(_: Any, array: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Divide as XLA does, towards zero."""
    _check_divisor(by)
    down = array // by
    exact = down * by == array
    return down + (~exact & ((array < 0) != (by < 0))).astype(down.dtype)


def _remainder(_: Any, array: np.ndarray, by: np.ndarray) -> np.ndarray:
    _check_divisor(by)
    return np.fmod(array, by)


def _check_divisor(by: np.ndarray) -> None:
    if not by.all():
        raise ValueError("a division by zero")


def _select(_: Any, which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    if len(cases) != 2 or ((which != 0) & (which != 1)).any():
        raise ValueError("a choice among more than two")
    return np.where(which, cases[1], cases[0])


def _convert(params: dict[str, Any], array: np.ndarray) -> np.ndarray:
    return array.astype(params["new_dtype"])


def _power(params: dict[str, Any], array: np.ndarray) -> np.ndarray:
    return array ** np.asarray(params["y"], array.dtype)


def _plain(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return an elementwise function that takes no parameters."""
    return _elementwise(lambda _, *arrays: function(*arrays))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": _plain(np.abs),
    "add": _plain(np.add),
    "and": _plain(np.bitwise_and),
    "clamp": _plain(lambda low, array, high: np.minimum(np.maximum(array, low), high)),
    "convert_element_type": _elementwise(_convert),
    "div": _elementwise(_quotient),
    "eq": _plain(np.equal),
    "ge": _plain(np.greater_equal),
    "gt": _plain(np.greater),
    "integer_pow": _elementwise(_power),
    "le": _plain(np.less_equal),
    "lt": _plain(np.less),
    "max": _plain(np.maximum),
    "min": _plain(np.minimum),
    "mul": _plain(np.multiply),
    "ne": _plain(np.not_equal),
    "neg": _plain(np.negative),
    "not": _plain(np.invert),
    "or": _plain(np.bitwise_or),
    "rem": _elementwise(_remainder),
    "select_n": _elementwise(_select),
    "sign": _plain(np.sign),
    "square": _plain(np.square),
    "sub": _plain(np.subtract),
    "xor": _plain(np.bitwise_xor),
    **dict.fromkeys(
        ("copy", "copy_p", "mesh_cast", "pvary", "reshard", "sharding_constraint"),
        lambda _, array: array,
    ),
    "iota": _iota,
    "broadcast_in_dim": _broadcast,
    "expand_dims": _expand,
    "squeeze": _squeeze,
    "slice": _slice,
    "unstack": _unstack,
    "split": _split,
    "rev": lambda params, array: np.flip(array, params["dimensions"]),
    "transpose": lambda params, array: array.transpose(params["permutation"]),
    "reshape": _moving(_reshape),
    "concatenate": _moving(lambda params, *parts: np.concatenate(parts, params["dimension"])),
    "stack": _moving(lambda params, *parts: np.stack(parts, params["axis"])),
    "tile": _moving(lambda params, array: np.tile(array, params["reps"])),
}
