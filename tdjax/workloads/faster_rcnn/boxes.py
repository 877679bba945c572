"""Boxes: (x, y, width, height) arrays, in any one unit of length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["apply_offsets", "offsets_between", "overlaps", "suppress"]

Boxes = NDArray[np.float32]

# keras-frcnn's scaling of the regression targets (its `classifier_regr_std`).
_SCALE = np.array([8.0, 8.0, 4.0, 4.0], np.float32)


def overlaps(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Intersection over union of each box of `a` `(n, 4)` with each of `b` `(m, 4)`: `(n, m)`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=-1)
    areas = np.prod(a[:, 2:], axis=-1)[:, None] + np.prod(b[:, 2:], axis=-1)[None]
    return shared / (areas - shared)


def suppress(boxes: Boxes, scores: NDArray[np.float32], limit: float, count: int) -> NDArray:
    """Non-maximum suppression: indices of at most `count` boxes, best first.

    Args:
      boxes: `(n, 4)`.
      scores: `(n,)`; larger is better.
      limit: A box that overlaps a better one by more than this is dropped.
      count: How many to keep.

    Returns:
      Indices into `boxes`.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size and len(kept) < count:
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[overlaps(boxes[best : best + 1], boxes[order])[0] <= limit]
    return np.array(kept, np.intp)


def offsets_between(boxes: Boxes, targets: Boxes) -> NDArray[np.float32]:
    """What takes each box to its target: the regression targets of Fast R-CNN, `(n, 4)`.

    Shifts of the centre in units of the box's size, and logarithms of the sizes' ratios
    (https://arxiv.org/abs/1504.08083, section 2.3, and R-CNN's appendix C).
    """
    centres, goals = boxes[:, :2] + boxes[:, 2:] / 2, targets[:, :2] + targets[:, 2:] / 2
    shift = (goals - centres) / boxes[:, 2:]
    return _SCALE * np.concatenate([shift, np.log(targets[:, 2:] / boxes[:, 2:])], axis=-1)


def apply_offsets(boxes: Boxes, offsets: NDArray[np.float32]) -> Boxes:
    """The boxes that `offsets` `(n, 4)` take `boxes` `(n, 4)` to."""
    shift, log_ratio = np.split(offsets / _SCALE, 2, axis=-1)
    centres = boxes[:, :2] + boxes[:, 2:] / 2 + shift * boxes[:, 2:]
    sizes = boxes[:, 2:] * np.exp(np.clip(log_ratio, -1.0, 1.0))
    return np.concatenate([centres - sizes / 2, sizes], axis=-1)
