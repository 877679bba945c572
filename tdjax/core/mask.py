"""Which steps are real: a mask, or the length of each sequence, and conversions between them."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from tdjax.core.arrays import is_concrete_shape
from tdjax.core.errors import describe

MaskLike: TypeAlias = "jax.Array | np.ndarray[Any, Any] | None"
"""What type checkers take for a mask, or for lengths."""


def resolve_mask(mask: Any, seq_lengths: Any, batch: Any, time: Any) -> Any:
    """Return a bool mask `(batch, time, ...)`, True for real steps, or None if neither is given.

    Args:
        mask: bool `(batch, time)` or `(batch, time, ...)`.
        seq_lengths: int `(batch,)`: the first `seq_lengths[i]` steps of row i are real. Lengths
            over the time size are an error where their values are known, and count as the time
            size in a trace.
        batch: rows of a step; None if no argument has any.
        time: number of steps.

    Raises:
        ValueError: both are given, a shape does not fit, or a length is out of range.
        TypeError: the mask is not bool, or the lengths are not ints.
    """
    if mask is not None and seq_lengths is not None:
        raise ValueError(
            "mask and seq_lengths are both given; they say the same thing: give one of them."
        )
    if seq_lengths is not None:
        return _from_lengths(_as_lengths(jnp.asarray(seq_lengths), batch), time)
    return None if mask is None else _checked(mask, batch, time)


def lengths_to_mask(seq_lengths: Any, time: int | None = None) -> Any:
    """Return the mask of sequences: True in row i for its first `seq_lengths[i]` steps.

    Args:
        seq_lengths: int `(batch,)`.
        time: number of steps; None for the length of the longest sequence, which needs lengths
            whose values are known.

    Returns:
        bool `(batch, time)`; a NumPy array where the values of the lengths are known.

    Raises:
        ValueError: a length is negative or over `time`, or the shape does not fit.
        TypeError: the lengths are not ints, or `time` is missing in a trace.

    >>> lengths_to_mask([2, 0, 3])
    array([[ True,  True, False],
           [False, False, False],
           [ True,  True,  True]])
    """
    traced = isinstance(seq_lengths, jax.core.Tracer)
    lengths = _as_lengths(seq_lengths if traced else np.asarray(seq_lengths), None)
    if time is None:
        if traced:
            raise TypeError(
                "lengths_to_mask: the longest of traced seq_lengths is not known; give time, the "
                "number of steps."
            )
        time = int(lengths.max(initial=0))
    return _from_lengths(lengths, time)


def mask_to_lengths(mask: Any) -> Any:
    """Return how many steps of each sequence are real, the inverse of `lengths_to_mask`.

    Args:
        mask: bool `(batch, time)`, in every row True up to some step and False from there on. In a
            trace, where that cannot be checked, the True entries are counted.

    Returns:
        int32 `(batch,)`; a NumPy array where the values of the mask are known.

    Raises:
        ValueError: the shape does not fit, or a row has a real step after a masked one.
        TypeError: the mask is not bool.

    >>> mask_to_lengths([[True, True, False], [False, False, False]])
    array([2, 0], dtype=int32)
    """
    if not isinstance(mask, jax.core.Tracer):
        mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"mask is {describe(mask)}; it must be bool, True for a real step.")
    if mask.ndim != 2:
        raise ValueError(f"mask is {describe(mask)}; it must be bool[batch,time].")
    if isinstance(mask, np.ndarray):
        wrong = np.flatnonzero((mask[:, 1:] & ~mask[:, :-1]).any(1))
        if wrong.size:
            raise ValueError(
                f"mask[{wrong[0]}] has a real step after a masked one, so no length describes it; "
                f"pass it as mask=."
            )
    return mask.sum(1, dtype=np.int32)


def fraction_real(mask: Any, seq_lengths: Any, time: Any) -> float | None:
    """Return the fraction of all steps that is real, or None if values or sizes are not known.

    Args:
        mask, seq_lengths: as they were given, one of them or neither.
        time: number of steps.
    """
    given = seq_lengths if mask is None else mask
    if given is None or isinstance(given, jax.core.Tracer) or not is_concrete_shape((time,)):
        return None
    values = np.asarray(given)
    if mask is None:
        return float(np.mean(values / time)) if values.size and time else None
    real = values if values.ndim == 2 else values.any(axis=tuple(range(2, values.ndim)))
    return float(real.mean()) if real.size else None


def _checked(mask: Any, batch: Any, time: Any) -> Any:
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(
            f"mask is {describe(mask)}; it must be bool, True for a real step: write mask != 0 or "
            f"mask.astype(bool)."
        )
    if mask.ndim < 2 or mask.shape[1] != time or (batch is not None and mask.shape[0] != batch):
        rows = "batch" if batch is None else batch
        raise ValueError(
            f"mask is {describe(mask)}; it must be bool[{rows},{time}], which is (batch, time), "
            f"whatever in_axes is{', with more axes after these if it has any' * (mask.ndim > 2)}."
        )
    return mask


def _as_lengths(lengths: Any, batch: Any) -> Any:
    """Return the lengths; raise unless they are ints, one a row."""
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"seq_lengths is {describe(lengths)}; it must hold ints, a length a row.")
    if lengths.ndim != 1 or (batch is not None and lengths.shape[0] != batch):
        rows = "batch" if batch is None else batch
        raise ValueError(
            f"seq_lengths is {describe(lengths)}; it must be int[{rows}], one length a row."
        )
    return lengths


def _from_lengths(lengths: Any, time: Any) -> Any:
    if not isinstance(lengths, jax.core.Tracer) and is_concrete_shape((time,)):
        _check_range(np.asarray(lengths), time)
    numpy = np if isinstance(lengths, np.ndarray) else jnp
    return numpy.arange(time, dtype=np.int32)[None, :] < lengths.astype(np.int32)[:, None]


def _check_range(lengths: np.ndarray, time: int) -> None:
    wrong = np.flatnonzero((lengths < 0) | (lengths > time))
    if wrong.size:
        row = int(wrong[0])
        raise ValueError(
            f"seq_lengths[{row}] is {lengths[row]}; lengths must lie between 0 and the number of "
            f"steps, {time}."
        )
