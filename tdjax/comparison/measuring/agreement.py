"""Does a candidate give the same answer as the reference?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from tdjax.comparison.verdicts.entry import EXPLAINED, NARROW

# In bfloat16, values and gradients through fifty layers are off by a quarter.
_ON_CPU = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 3e-1, "float16": 2e-2}
# Accelerators multiply float32 matrices in TF32 or bfloat16 passes unless told not to.
_ELSEWHERE = {"float64": 1e-6, "float32": 2e-2, "bfloat16": 3e-1, "float16": 2e-2}
# Where rounding flips a relu, a gradient jumps in a few places: through nine layers of a ResNet's
# stage, recomputed in blocks, it was off by 5e-2 of its largest value, and by 5e-3 of its root
# mean square over all of it (by 1e-15 in float64); through three convolutions of 13 million values
# by 4e-2 and 8e-4; on an H100 by 8e-2. A wrong gradient is wrong in many places.
_FLIPPED = 1e-1
_FLIPPED_ON_AVERAGE = {"cpu": 1e-2}
_NARROWER = 0.25

# A gradient that is zero but for rounding (a bias before a softmax) has no scale of its own.
_SCALE_FLOOR = 1e-3
_ROUNDINGS = 4


def disagreement(
    answers: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    platform: str,
    gradients: int = 0,
) -> tuple[float | None, str | None]:
    """Compare a candidate's arrays with the reference's.

    Args:
        answers: the candidate's arrays, whose dtypes say how much is rounded.
        expected: the right ones, in the same order, perhaps of wider dtypes.
        platform: where they were computed: "cpu", "gpu" or "tpu".
        gradients: how many of them, the last ones, are gradients.

    Returns:
        The largest difference relative to the largest magnitude in its array (at least a
        thousandth of the largest in all of them, and more in 16 bits), None where it has no
        finite value; and a sentence on what is wrong, None where rounding explains the difference.
    """
    magnitudes = [_magnitude(array) for array in expected]
    largest = max(magnitudes, default=0.0)
    worst = 0.0
    problem = None
    values = len(expected) - gradients
    for index, (answer, right) in enumerate(zip(answers, expected, strict=True)):
        allowed = _tolerance(answer.dtype, platform)
        floor = _scale_floor(answer.dtype, allowed) * largest
        error = _error(answer, right, max(magnitudes[index], floor) or 1.0)
        if not np.isfinite(error):
            return None, f"array {index} of the answer is not finite where the reference is"
        flipped = index >= values and error <= _FLIPPED and _flips(answer, right, platform)
        if problem is None and error > allowed and not flipped:
            problem = f"array {index} of the answer is off by {error:.1e} of its largest value"
        worst = max(worst, error)
    return worst, problem


def why_off(
    answers: Sequence[np.ndarray], expected: Sequence[np.ndarray], platform: str
) -> str | None:
    """Return why arrays that `disagreement` accepts are off by more than 1e-3; None if none is."""
    said: dict[str, None] = {}
    flipped, values = 0, 0
    largest = max((_magnitude(array) for array in expected), default=0.0)
    for answer, right in zip(answers, expected, strict=True):
        allowed = _tolerance(right.dtype, platform)
        scale = max(_magnitude(right), _scale_floor(right.dtype, allowed) * largest) or 1.0
        if _error(answer, right, scale) <= EXPLAINED:
            continue
        if right.dtype.itemsize <= 2:
            said[f"rounded to {right.dtype.name}"] = None
        elif platform != "cpu":
            said[NARROW] = None
        else:
            finite = np.isfinite(right)
            off = np.abs(answer[finite].astype(_wide(right)) - right[finite])
            flipped, values = flipped + int((off > EXPLAINED * scale).sum()), values + off.size
    if values:
        where = f"{flipped:,} of {values:,} values of gradients"
        said[f"rounding flipped a relu: {where} are off by more than {EXPLAINED:g}"] = None
    return "; ".join(said) or None


def _tolerance(dtype: Any, platform: str) -> float:
    """Return the relative difference that rounding explains in arrays of this dtype."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        return 0.0
    name = np.dtype(dtype).name
    name = {"complex64": "float32", "complex128": "float64"}.get(name, name)
    return (_ON_CPU if platform == "cpu" else _ELSEWHERE).get(name, _NARROWER)


def _flips(answer: np.ndarray, right: np.ndarray, platform: str) -> bool:
    """Return whether a few flipped relus explain a difference, which is then small on average.

    On accelerators, whose products are rounded to a few digits, many relus flip.
    """
    if answer.dtype not in (np.float32, np.complex64):
        return False
    finite = np.isfinite(right)
    answer, right = answer[finite].astype(_wide(right)), right[finite].astype(_wide(right))
    allowed = _FLIPPED_ON_AVERAGE.get(platform, np.inf)
    return bool(np.linalg.norm(answer - right) <= allowed * np.linalg.norm(right))


def _scale_floor(dtype: Any, allowed: float) -> float:
    """Return the least scale of an array, relative to the largest of all.

    An array that is off by a few roundings of the largest value of all is then within `allowed`.
    """
    if not jnp.issubdtype(dtype, jnp.inexact):
        return _SCALE_FLOOR
    return max(_SCALE_FLOOR, _ROUNDINGS * float(jnp.finfo(dtype).eps) / allowed)


def _magnitude(array: np.ndarray) -> float:
    if not jnp.issubdtype(array.dtype, jnp.inexact) or not array.size:
        return 0.0
    if array.dtype == np.float32 and np.isfinite(found := np.abs(array).max()):
        return float(found)
    wide = np.abs(array.astype(_wide(array)))
    return float(wide[np.isfinite(wide)].max(initial=0.0))


def _error(answer: np.ndarray, right: np.ndarray, scale: float) -> float:
    if not jnp.issubdtype(right.dtype, jnp.inexact):
        return float(np.any(answer != right))
    if answer.dtype == right.dtype == np.float32:
        # Twice as fast as in float64, and as exact, where nothing overflows.
        with np.errstate(invalid="ignore", over="ignore"):
            largest = np.abs(answer - right).max(initial=0.0)
        if np.isfinite(largest):
            return float(largest) / scale
    answer, right = answer.astype(_wide(right)), right.astype(_wide(right))
    finite = np.isfinite(right)
    same = np.array_equal(answer[~finite], right[~finite], equal_nan=True)
    if not same or not np.isfinite(answer[finite]).all():
        return float("inf")
    return float(np.abs(answer[finite] - right[finite]).max(initial=0.0)) / scale


def _wide(array: np.ndarray) -> type:
    return np.complex128 if np.iscomplexobj(array) else np.float64
