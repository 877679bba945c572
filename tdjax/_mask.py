"""Which steps are real: a mask, or the length of each sequence."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tdjax._errors import describe
from tdjax._symbolic import is_concrete_shape


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
        return _from_lengths(seq_lengths, batch, time)
    return None if mask is None else _checked(mask, batch, time)


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


def _from_lengths(lengths: Any, batch: Any, time: Any) -> Any:
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"seq_lengths is {describe(lengths)}; it must hold ints, a length a row.")
    if lengths.ndim != 1 or (batch is not None and lengths.shape[0] != batch):
        rows = "batch" if batch is None else batch
        raise ValueError(
            f"seq_lengths is {describe(lengths)}; it must be int[{rows}], one length a row."
        )
    if not isinstance(lengths, jax.core.Tracer) and is_concrete_shape((time,)):
        _check_range(np.asarray(lengths), time)
    return jnp.arange(time, dtype=np.int32)[None, :] < lengths.astype(np.int32)[:, None]


def _check_range(lengths: np.ndarray, time: int) -> None:
    wrong = np.flatnonzero((lengths < 0) | (lengths > time))
    if wrong.size:
        row = int(wrong[0])
        raise ValueError(
            f"seq_lengths[{row}] is {lengths[row]}; lengths must lie between 0 and the number of "
            f"steps, {time}."
        )
